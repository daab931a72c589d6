"""Which fields of a config a run goes on with, and with which it is tested."""

import json

import pytest

from aia_jax import config as configs
from aia_jax.checkpoints.run_config import (
    compare_with_checkpoint,
    config_to_test,
    decides_numbers,
    is_network,
)
from aia_jax.config_fields import leaves
from aia_jax.errors import UserError
from tests.helpers.paths import ROOT

RECIPE = ROOT / "configs" / "ssv2.py:aia_tsn"
NAMES = ["a", "b"]


def load(*overrides, recipe=RECIPE):
    return configs.load(recipe, overrides)


def compare(before, now, names=NAMES):
    meta = {"config": configs.to_json(before), "class_names": NAMES}
    return compare_with_checkpoint(now, names, meta)


def test_a_run_goes_on_elsewhere_and_faster_without_a_word():
    elsewhere = load(
        *("data.dir=/elsewhere", "data.workers=1", "mesh.fsdp=2", "eval.batch_size=8"),
        *("train.remat=1", "data.changed_on_purpose=true", "compile_cache="),
    )
    assert compare(load(), elsewhere) == []
    (note,) = compare(load(), load("optim.lr=0.5"))
    assert note == "optim.lr was 0.01 up to here and is 0.5 from here on"


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("model.temporal=tsm", ["model.temporal", "has tsn", "it is tsm", "another network"]),
        ("model.attention=C", ["CinST->STinC", "it is C", "--config.init_from"]),
        ("model.depth=101", ["50", "101"]),
        ("seed=1", ["seed", "position"]),
        ("train.batch_size=64", ["32", "64", "position"]),
        ("optim.name=adamw", ["optim.name", "'sgd'", "'adamw'", "state", "--config.init_from"]),
        ("train.ema_decay=0.9", ["train.ema_decay", "0.0", "0.9", "state"]),
        ("train.method=svmix", ["train.method", "'supervised'", "'svmix'", "state"]),
    ],
)
def test_a_run_does_not_go_on_as_another(override, words):
    with pytest.raises(UserError) as raised:
        compare(load(), load(override))
    assert all(word in str(raised.value) for word in words), raised.value


def test_a_run_does_not_go_on_with_other_classes():
    with pytest.raises(UserError, match="class 1 was 'b' and is 'c'"):
        compare(load(), load(), ["a", "c"])


def test_a_test_is_as_the_run_was_trained():
    saved = load("model.temporal=tsm", "data.crop=160", "mesh.data=8", "eval.batch_size=64")
    config, changed, notes = config_to_test(saved)
    assert not changed and not notes
    assert leaves(config) == leaves(saved) | {"mesh.data": -1}  # of another machine, perhaps


def test_a_bare_recipe_changes_what_belongs_to_the_machine_only_and_the_rest_is_said():
    saved = load("model.temporal=tsm", "data.crop=160", "eval.batch_size=64")
    recipe = load("mesh.fsdp=2")
    config, changed, (note,) = config_to_test(saved, (), recipe)
    assert config.model == saved.model and config.data.crop == 160 and not changed
    assert (config.eval.batch_size, config.mesh.fsdp) == (32, 2)
    assert "data.crop 160 (the recipe has 224)" in note
    assert "model.temporal tsm (the recipe has tsn)" in note and "--config.key=value" in note
    # What the command line sets by itself needs no such note.
    config, changed, (note,) = config_to_test(saved, ["data.crop=128"], recipe)
    assert config.data.crop == 128 and changed == {"data.crop": (160, 128)}
    assert "data.crop" not in note


def test_a_recipe_that_leaves_fields_to_the_user_says_nothing_of_them():
    own = ROOT / "configs" / "own_videos.py"
    saved = load("data.dir=data/mine", "data.num_classes=12", recipe=own)
    assert config_to_test(saved, (), load(recipe=own))[1:] == ({}, [])


@pytest.mark.parametrize(
    "override",
    ["model.temporal=tsm", "model.depth=101", "model.name=vit", "data.num_classes=3"],
)
def test_a_test_of_another_network_is_refused(override):
    with pytest.raises(UserError, match=f"--config.{override}: the run was trained with"):
        config_to_test(load(), [override])


def test_overrides_are_checked_and_those_that_decide_are_named():
    given = ["data.crop=128", "eval.protocol=twice", "eval.batch_size=2", "model.dropout=0.1"]
    _, changed, _ = config_to_test(load(), [*given, "model.compute_dtype=bfloat16"])
    assert changed == {
        "data.crop": (224, 128),
        "eval.protocol": ("center", "twice"),
        "model.compute_dtype": ("float32", "bfloat16"),
    }
    with pytest.raises(UserError, match=r"data\.crop: 999 pixels do not fit"):
        config_to_test(load(), ["data.crop=999"])
    with pytest.raises(UserError, match=r"did you mean data\.crop"):
        config_to_test(load(), ["data.crup=100"])


def test_a_run_of_an_older_version_has_the_defaults_of_newer_fields():
    old = json.loads(configs.to_json(load()))
    for key in ("changed_on_purpose", "sampling", "balance", "label_kind"):
        del old["data"][key]
    saved = configs.from_json(json.dumps(old))
    assert config_to_test(saved, (), load())[1:] == ({}, [])
    meta = {"config": json.dumps(old), "class_names": NAMES}
    config = load()
    config.data.label_kind = "single"  # as train.py sets it
    assert compare_with_checkpoint(config, NAMES, meta) == []
    config.data.balance = 0.5
    with pytest.raises(UserError, match=r"data\.balance: .* its position in the data would be"):
        compare_with_checkpoint(config, NAMES, meta)


def test_every_field_that_decides_what_a_test_shows_is_known():
    """A new field of `model`, `data` or `eval` decides until it is said not to."""
    found = {key for key in leaves(load()) if is_network(key) or decides_numbers(key)}
    assert {"data.crop", "data.resize", "data.num_frames", "data.label", "data.val_split"} < found
    assert {"model.temporal", "model.attention", "model.compute_dtype", "eval.protocol"} < found
    assert (
        not {"data.workers", "data.balance", "eval.batch_size", "optim.lr", "seed", "data.name"}
        & found
    )
