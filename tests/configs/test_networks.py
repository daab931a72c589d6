"""The argument of a recipe: read in any order, refused with the right ones."""

import pytest

from configs.networks import NETWORKS, Argument, Choice, Network, Option
from configs.paper import Reported

PLAIN = Argument()
TWO_OPTIONS = Argument(
    options={"split": Option(("1", "2"), "official split"), "label": Option(("a", "b"), "label")},
    default="tsm",
)


@pytest.mark.parametrize("text", ["aia_tsn", " aia_tsn "])
def test_a_network_is_named(text):
    assert PLAIN.parse(text) == Choice("aia_tsn", NETWORKS["aia_tsn"], {})


@pytest.mark.parametrize("text", ["", " "])
def test_an_empty_argument_takes_the_defaults(text):
    assert PLAIN.parse(text).argument == "aia_tsm"
    assert TWO_OPTIONS.parse(text).argument == "tsm,split=1,label=a"


@pytest.mark.parametrize(
    "text", ["tsn,split=2,label=b", "label=b,tsn,split=2", "split=2, label = b ,tsn"]
)
def test_the_order_is_free(text):
    choice = TWO_OPTIONS.parse(text)
    assert (choice.name, choice.options) == ("tsn", {"split": "2", "label": "b"})
    assert choice.argument == "tsn,split=2,label=b"


def test_options_that_are_left_out_take_their_first_value():
    assert TWO_OPTIONS.parse("label=b").argument == "tsm,split=1,label=b"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tsx", "there is no network 'tsx'; networks: tsn, tsm, aia_tsn, aia_tsm; options: "),
        ("tsm,", "there is no network ''; networks: "),
        (",split=1", "there is no network ''; networks: "),
        ("tsn,tsm", "tsn and tsm are 2 networks; name one"),
        ("tsn,tsn", "tsn and tsn are 2 networks; name one"),
        ("spilt=1", "there is no option 'spilt'; networks: "),
        ("split=3", "there is no split '3'; networks: "),
        ("split=", "there is no split ''; networks: "),
        ("split=1,split=1", "the option split comes twice; networks: "),
    ],
)
def test_a_wrong_argument_lists_the_right_ones(text, message):
    with pytest.raises(ValueError) as error:
        TWO_OPTIONS.parse(text)
    assert str(error.value).startswith(message)
    if "networks: " in message:
        assert str(error.value).endswith("options: split=1|2, label=a|b")


def test_a_choice_starts_from_the_base_with_its_network():
    argument = Argument(
        default="small", networks={"small": Network("small", {"name": "resnet", "width": 8})}
    )
    config = argument.parse("").start_config()
    assert (config.model.name, config.model.width, config.model.depth) == ("resnet", 8, 50)
    assert config.paper == "" and config.is_locked


def test_the_papers_number_is_that_of_network_and_options():
    paper = {"tsn,split=2,label=a": Reported(12.5, None, "IX")}
    assert TWO_OPTIONS.parse("tsn,split=2").start_config(paper).paper == (
        "12.5% top-1 (Table IX; 8 frames) for TSN"
    )
    assert TWO_OPTIONS.parse("tsn").start_config(paper).paper == "none for TSN"
    assert TWO_OPTIONS.parse("tsn").start_config({}).paper == "none on this data set"


def test_choices_are_described():
    assert TWO_OPTIONS.describe({"tsn,split=2,label=a": Reported(12.5, None, "IX")}) == {
        "tsn": "TSN; the paper's 12.5% (split=2, label=a) top-1",
        "tsm": "TSM, the default; no number in the paper",
        "aia_tsn": "TSN with CinST->STinC; no number in the paper",
        "aia_tsm": "TSM with CinST->STinC; no number in the paper",
        "split=1|2": "official split; 1 is the default",
        "label=a|b": "label; a is the default",
    }
