"""The family's demo: who sees the order of frames, what is expected of it, and when it is run."""

import json
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aia_jax import config as configs
from aia_jax.demo import family, synthetic
from aia_jax.errors import UserError
from aia_jax.models import clip_shape, model_from_config
from tests.helpers.paths import ROOT
from tests.helpers.quick_jit import quick_jit
from tests.helpers.tiny_data import make_dataset

MEMBERS = {member.argument: member for member in family.FAMILY}


@pytest.mark.parametrize("argument", MEMBERS)
def test_a_network_sees_the_order_of_frames_if_the_table_says_so(argument):
    """A clip and its reverse: the same logits without a sense of time, others with one."""
    config = configs.load(ROOT / f"configs/demo.py:{argument}")
    small = {"layers": 2, "image_size": 32} if "layers" in config.model else {"stage_sizes": (1,)}
    model = model_from_config(config).clone(num_frames=4, dropout=0.0, **small)
    shape = clip_shape(model, 32)
    rng = np.random.default_rng(0)
    clips = rng.standard_normal((1, *shape), np.float32)
    clips *= np.linspace(0, 2, shape[0], dtype=np.float32)[:, None, None, None]  # brightens
    clips = jnp.concatenate([clips, clips[:, ::-1]])
    shapes = jax.eval_shape(model.init, jax.random.key(0), clips)
    # Not the start: there some gates are constant and some branches are zero.
    variables = jax.tree_util.tree_map_with_path(
        lambda path, leaf: _draw(rng, jax.tree_util.keystr(path), leaf.shape), shapes
    )
    logits = np.asarray(quick_jit(model.apply)(variables, clips))
    difference = np.abs(logits[0] - logits[1]).max() / logits.std()
    assert difference > 1e-3 if MEMBERS[argument].sees_order else difference < 1e-5


def _draw(rng, path: str, shape: tuple[int, ...]) -> np.ndarray:
    """Random numbers for a variable: kernels that keep the size of features, positive scales."""
    numbers = rng.standard_normal(shape, np.float32)
    if path.endswith(("['scale']", "['var']")):
        return 1 + 0.2 * np.abs(numbers)
    if len(shape) < 2:
        return 0.2 * numbers
    return numbers / np.sqrt(np.prod(shape[:-1], dtype=np.float32))


def test_what_is_expected_of_a_network():
    sees, blind = MEMBERS["tsm"], MEMBERS["tsn"]
    assert [family.passes(sees, top1) for top1 in (0.5, 0.89, 0.9, 1.0)] == [
        False,
        False,
        True,
        True,
    ]
    found = [family.passes(blind, top1) for top1 in (0.125, 0.43, 0.5, 0.6, 1.0)]
    assert found == [False, True, True, False, False]
    assert family.expectation(sees) == "at least 90%"
    assert family.expectation(blind) == "35% to 55%"


def test_members_are_chosen_in_the_tables_order():
    assert family.choose("") == list(family.FAMILY)
    assert [member.argument for member in family.choose("tsm, tsn")] == ["tsn", "tsm"]
    with pytest.raises(UserError, match="no 'tsx' in the family; tsn, vit, "):
        family.choose("tsn,tsx")


def test_a_run_is_finished_if_its_test_is_newer_than_its_last_start(tmp_path):
    config = {"seed": 1, "data": {"num_classes": 8, "label_kind": ""}}
    assert not family.is_finished(tmp_path, config)
    run, result = tmp_path / "run.json", tmp_path / "eval.json"
    resolved = {"seed": 1, "data": {"num_classes": 8, "label_kind": "single"}}  # the data say so
    run.write_text(json.dumps({"starts": [{"config": {"seed": 0}}, {"config": resolved}]}))
    assert not family.is_finished(tmp_path, config)
    result.write_text("{}")
    assert family.is_finished(tmp_path, config)
    assert not family.is_finished(tmp_path, {**config, "seed": 2})
    os.utime(result, (0, 0))
    assert not family.is_finished(tmp_path, config)


def test_the_family_is_trained_tested_compared_and_not_trained_again(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "true")
    monkeypatch.setattr(family, "data_commands", lambda *_: [])
    make_dataset(tmp_path / "data", 2, classes=synthetic.CLASSES, size=(16, 16), name="demo")
    flags = [
        f"--out={tmp_path}",
        "--only=vit",
        "--config.train.epochs=1",
        "--config.optim.milestones=",
        "--config.train.batch_size=8",
        "--config.eval.batch_size=8",
        "--config.data.crop=16",
        "--config.data.resize=16,16",
        "--config.model.image_size=16",
        "--config.model.layers=1",
        "--config.log.tensorboard=false",
    ]
    status = family.main(flags)
    printed, errors = capfd.readouterr()
    (row,) = json.loads((tmp_path / family.RESULTS).read_text())
    result = json.loads((tmp_path / "family" / "vit" / "eval.json").read_text())
    assert (row["argument"], row["top1"]) == ("vit", result["top1"])
    assert row["evaluated"] == result["evaluated"] > 0 and row["seconds"] > 0
    assert row["params"] > 0 and row["macs"] > 0 and not row["sees_order"]
    assert status == (0 if row["passed"] else 1), errors
    assert ("not as expected: vit" in errors) == (not row["passed"])
    assert f"{row['top1']:.1%}" in printed and f"{row['params']:,}" in printed
    page = (tmp_path / family.PAGE).read_text()
    assert "ViT of 1 layers" in page

    # The same once more starts no command, and remembers how long it took.
    monkeypatch.setattr(family, "run", lambda command: pytest.fail(f"started {command}"))
    assert family.main(flags) == status
    assert json.loads((tmp_path / family.RESULTS).read_text()) == [row]
