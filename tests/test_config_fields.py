"""Another network in a recipe or on the command line, with a second row in the table."""

import re

import pytest

from aia_jax import config as configs
from aia_jax.errors import UserError
from configs import base
from tests.helpers.other_network import other_network  # noqa: F401 (a fixture)
from tests.helpers.paths import ROOT

pytestmark = pytest.mark.usefixtures("other_network")

SSV2_TSN = ROOT / "configs" / "ssv2.py:tsn"
OTHER = {
    "name": "other",
    "mixing": "none",
    "dropout": 0.25,
    "sizes": (),
    "channels": 4,
    "compute_dtype": "bfloat16",
}


@pytest.fixture
def recipe(tmp_path):
    """Writes a recipe with the given lines and returns its path."""

    def write(*lines):
        body = "".join(f"    {line}\n" for line in lines)
        start = "from configs import base\n\ndef get_config():\n    config = base.get_config()\n"
        path = tmp_path / "mine.py"
        path.write_text(f"{start}{body}    return config\n")
        return path

    return write


def message(path, overrides=()):
    with pytest.raises(UserError) as error:
        configs.load(path, overrides)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_the_command_line_replaces_the_network_before_other_overrides():
    config = configs.load(SSV2_TSN, ["model.mixing=KV", "model.name=other", "model.sizes=1,2"])
    assert config.model.to_dict() == {**OTHER, "mixing": "KV", "sizes": (1, 2)}
    assert config.data == configs.load(SSV2_TSN).data and config.is_locked


def test_the_last_name_wins_and_the_recipes_own_changes_nothing():
    plain = configs.load(SSV2_TSN)
    assert configs.load(SSV2_TSN, ["model.name=resnet"]) == plain
    assert configs.load(SSV2_TSN, ["model.name=other", "model.name=resnet"]) == plain


def test_fields_that_the_recipe_chose_keep_their_values(recipe):
    path = recipe("config.model.dropout = 0.1")
    assert configs.load(path, ["model.name=other"]).model.to_dict() == {**OTHER, "dropout": 0.1}
    config = configs.load(path, ["model.name=other", "model.dropout=0.3"])
    assert config.model.dropout == 0.3


def test_a_field_that_the_recipe_chose_and_the_new_network_lacks_is_an_error(recipe):
    text = message(recipe("config.model.attention = 'C'"), ["model.name=other"])
    assert text == (
        "config key model.attention is a field of the network resnet and the recipe sets it to "
        "'C'; the network other has no such field"
    )


def test_an_unknown_network_gets_a_list_of_those_that_are():
    expected = "config key model.name: found 'vitt', expected resnet or .* or other"
    assert re.fullmatch(expected, message(SSV2_TSN, ["model.name=vitt"]))
    with pytest.raises(UserError, match=expected):
        base.use_network(base.get_config(), "vitt")


def test_a_field_of_another_network_is_an_error_that_says_whose_it_is(recipe):
    expected = "config key model.mixing is a field of the network other, this recipe's is resnet"
    assert message(SSV2_TSN, ["model.mixing=KV"]) == expected
    assert message(recipe("config.model.mixing = 'KV'")).endswith(f"line 5: {expected}")
    assert message(recipe("base.use_network(config, 'resnet', mixing='KV')")).endswith(expected)
    other = "config key model.fold_div is a field of the network resnet, this recipe's is other"
    assert message(SSV2_TSN, ["model.name=other", "model.fold_div=50"]) == other
    path = recipe("base.use_network(config, 'other')", "config.model.fold_div = 101")
    assert message(path).endswith(f"line 6: {other}")
    path = recipe("config.model.name = 'other'")
    assert "is a field of the network resnet, this recipe's is other" in message(path)


def test_a_key_of_both_networks_in_the_wrong_section_is_looked_for_as_ever(recipe):
    assert "did you mean model.dropout?" in message(recipe("config.train.dropout = 0.1"))


def test_a_recipe_chooses_a_network_and_its_fields(recipe):
    config = configs.load(recipe("base.use_network(config, 'other', mixing='KV', sizes=[3])"))
    assert config.model.to_dict() == {**OTHER, "mixing": "KV", "sizes": (3,)}
    with pytest.raises(KeyError):
        config.model["new"] = 1


@pytest.mark.parametrize(
    ("fields", "words"),
    [("mixing=1", "model.mixing 1 text"), ("mixng='KV'", "model.mixng model.mixing")],
)
def test_a_wrong_field_of_the_chosen_network_gets_one_line(recipe, fields, words):
    text = message(recipe(f"base.use_network(config, 'other', {fields})"))
    for word in words.split():
        assert word in text, text


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("model.mixing=Q", "config key model.mixing: found 'Q', expected none or KV"),
        ("train.bn_group_size=8", "config key train.bn_group_size: found 8 network other"),
        ("train.partial_bn=1", "config key train.partial_bn: found True network other"),
        ("train.remat=1", "config key train.remat: found (1,) network other"),
    ],
)
def test_the_network_checks_its_own_fields(override, words):
    text = message(SSV2_TSN, ["model.name=other", override])
    for word in words.split():
        assert word in text, text


def test_json_keeps_another_network():
    config = configs.load(SSV2_TSN, ["model.name=other"])
    assert configs.from_json(configs.to_json(config)) == config
