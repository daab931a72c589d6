"""A config as JSON: nothing is lost, and configs of other versions of this project open."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aia_jax import config as configs
from tests.helpers.paths import ROOT

RECIPES = sorted(
    path
    for path in (ROOT / "configs").glob("*.py")
    if "def get_config(argument" in path.read_text()
)
SSV1_TSN = ROOT / "configs" / "ssv1.py:tsn"


def flat(config, prefix=""):
    leaves = {}
    for key, value in config.to_dict().items():
        leaves |= (
            {f"{key}.{k}": v for k, v in flat(config[key]).items()}
            if isinstance(value, dict)
            else {key: value}
        )
    return leaves


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_json_keeps_everything(path):
    config = configs.load(path)
    again = configs.from_json(configs.to_json(config))
    assert again == config and again.is_locked
    assert {key: type(value) for key, value in flat(again).items()} == {
        key: type(value) for key, value in flat(config).items()
    }


def test_a_config_of_an_older_version_gets_the_fields_that_it_lacks():
    config = configs.load(SSV1_TSN, ["model.depth=101", "train.epochs=3"])
    saved = json.loads(configs.to_json(config))
    del saved["model"]["name"], saved["model"]["fold_div"]
    del saved["train"]["method"], saved["train"]["remat"], saved["paper"], saved["profile"]
    found = configs.from_json(json.dumps(saved))
    assert found.is_locked
    with config.unlocked():
        config.paper = ""
    assert found == config


def test_a_config_of_a_newer_version_keeps_the_fields_that_are_unknown_here():
    saved = json.loads(configs.to_json(configs.load(SSV1_TSN)))
    saved["model"] = {"name": "later", "size": "B"}
    saved["train"]["later"] = [1]
    found = configs.from_json(json.dumps(saved))
    assert found.model.to_dict() == {"name": "later", "size": "B"}
    assert found.train.later == (1,)


@settings(max_examples=30, deadline=None)
@given(
    lr=st.floats(1e-300, 1e38),
    milestones=st.lists(st.integers(1, 10**6), unique=True).map(sorted),
    scales=st.lists(st.floats(0.01, 1), min_size=1),
    seed=st.integers(0, 2**63 - 1),
    text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
)
def test_json_and_overrides_keep_any_value(lr, milestones, scales, seed, text):
    given_values = {
        "optim.lr": lr,
        "optim.milestones": tuple(milestones),
        "data.scales": tuple(scales),
        "seed": seed,
        "data.name": text,
    }
    config = configs.load(SSV1_TSN, [f"{key}={value}" for key, value in given_values.items()])
    again = configs.from_json(configs.to_json(config))
    assert again == config
    for key, value in given_values.items():
        assert again[key] == value and type(again[key]) is type(value)
