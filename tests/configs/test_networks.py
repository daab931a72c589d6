"""The argument of a recipe: read in any order, refused with the right ones."""

import pytest

from configs import base
from configs.methods import METHODS
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


@pytest.mark.parametrize("text", ["svmix,tsn", "tsn, svmix"])
def test_a_method_is_named_beside_the_network(text):
    assert PLAIN.parse(text) == Choice("tsn", NETWORKS["tsn"], {}, "svmix")
    assert TWO_OPTIONS.parse(f"split=2,{text}").argument == "tsn,svmix,split=2,label=a"
    assert TWO_OPTIONS.parse("modern").argument == "tsm,modern,split=1,label=a"


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
        ("tsx", "there is no network or method 'tsx'; networks: tsn, tsm, aia_tsn, aia_tsm, "),
        ("tsm,", "there is no network or method ''; networks: "),
        (",split=1", "there is no network or method ''; networks: "),
        ("tsn,tsm", "tsn and tsm are 2 networks; name one"),
        ("tsn,tsn", "tsn and tsn are 2 networks; name one"),
        ("tsn,svmix,modern", "svmix and modern are 2 methods; name one"),
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
        usage = "; methods: svmix, modern; options: split=1|2, label=a|b"
        assert str(error.value).endswith(usage)


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


def test_what_is_reported_brings_its_number_of_frames():
    paper = {"tsn": Reported(12.5, None, "IX", frames=16)}
    assert PLAIN.parse("tsn").start_config(paper).data.num_frames == 16
    assert PLAIN.parse("tsm").start_config(paper).data.num_frames == 8
    assert PLAIN.parse("tsn").start_config().data.num_frames == 8


def test_a_networks_recipe_is_set_unless_the_bare_network_is_wanted():
    fields, recipe = {"name": "resnet"}, {"train.epochs": 7, "data.resize": "short256"}
    argument = Argument(default="mine", networks={"mine": Network("mine", fields, recipe=recipe)})
    choice = argument.parse("")
    config = choice.start_config()
    assert (config.train.epochs, config.data.resize) == (7, "short256") and config.is_locked
    assert choice.start_config(recipes={"mine": {"train.epochs": 9}}).train.epochs == 9
    assert choice.start_config(recipes={"other": {"train.epochs": 9}}).train.epochs == 7
    assert choice.bare_config() == base.get_config()
    wrong = Network("wrong", fields, recipe={"train.epoch": 7})
    with pytest.raises(KeyError, match="epoch"):
        Argument(default="wrong", networks={"wrong": wrong}).parse("").start_config()


def test_choices_are_described_by_kind():
    networks = {
        "tsn": NETWORKS["tsn"],
        "tsm": NETWORKS["tsm"],
        "h2cn": NETWORKS["h2cn"],
        "vit": NETWORKS["vit"],
    }
    argument = Argument(TWO_OPTIONS.options, "tsm", networks)
    theirs = Reported(1.25, None, source="Their README", crops=3, clips=10)
    paper = {
        "tsn,split=2,label=a": Reported(12.5, None, "IX"),
        "tsm,modern,split=1,label=a": theirs._replace(top1=3.0, crops=1, clips=1),
        "h2cn,split=1,label=a": theirs.beside(theirs._replace(top1=2.0, frames=16, crops=1)),
    }
    assert argument.describe(paper) == {
        "TSN, TSM, and attention in attention": {
            "tsn": "TSN; the paper's 12.5% (split=2, label=a) top-1",
            "tsm": "TSM, the default",
        },
        "other convolutional networks": {
            "h2cn": "H2CN; Their README 1.25% (split=1, label=a, 30 views), "
            "2.0% (split=1, label=a, 16 frames, 10 clips) top-1"
        },
        "vision transformers": {"vit": "ViT-B/16"},
        "ways to train, beside a network": {
            "svmix": METHODS["svmix"].title,
            "modern": METHODS["modern"].title + "; tsm: Their README 3.0% (split=1, label=a) top-1",
        },
        "options": {
            "split=1|2": "official split; 1 is the default",
            "label=a|b": "label; a is the default",
        },
    }
