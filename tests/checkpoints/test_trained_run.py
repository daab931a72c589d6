"""A run is opened by its folder alone, also one that an older version of this project wrote."""

import json
import shutil

import jax
import numpy as np
import pytest

from aia_jax.checkpoints import digest, trained_run
from aia_jax.checkpoints.trained_run import choose_step, open_run
from aia_jax.errors import UserError
from aia_jax.export import __main__ as export_command
from aia_jax.prediction.predict import Classifier
from tests.helpers.tiny_checkpoint import make_run
from tests.helpers.tiny_run import RECIPE

CLASSES = ("moving left", "moving right", "standing")


def remove_from_config(step_folder, *keys):
    """Removes fields from the config that a step has saved, as if they had not existed then."""
    path = step_folder / "meta" / "metadata"
    meta = json.loads(path.read_text())
    config = json.loads(meta["config"])
    for key in keys:
        *sections, field = key.split(".")
        section = config
        for name in sections:
            section = section[name]
        del section[field]
    path.write_text(json.dumps(meta | {"config": json.dumps(config)}))
    digest.seal(step_folder)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run, the same run as an older version saved it, the network and its variables."""
    folder = tmp_path_factory.mktemp("runs")
    recipe = folder / "tiny.py"
    recipe.write_text(RECIPE.format(data=str(folder / "data")))
    for name in ("new", "old"):
        model, variables = make_run(folder / name, recipe, [], CLASSES, {"top1": 0.5})
    remove_from_config(folder / "old" / "checkpoints" / "12", "model.name", "train.method", "paper")
    return folder / "new", folder / "old", model, variables


def test_a_run_is_what_was_saved(runs):
    folder, _, model, variables = runs
    run = open_run(folder)
    assert (run.workdir, run.step, run.class_names) == (folder, 12, CLASSES)
    assert run.model == model and run.metrics == {"top1": 0.5} and run.clip_shape == (4, 12, 12, 3)
    jax.tree.map(np.testing.assert_array_equal, run.variables, variables)


def test_a_run_of_an_older_version_opens_predicts_and_exports(runs, tmp_path):
    new, old = map(open_run, runs[:2])
    assert old.config == new.config and old.model == new.model
    clips = np.random.default_rng(0).integers(0, 256, (2, *new.clip_shape), np.uint8)
    logits = Classifier(old, 2)(list(clips))
    assert logits.shape == (2, 3) and np.isfinite(logits).all()
    out = tmp_path / "model.bin"
    export_command.main(["--workdir", str(runs[1]), "--out", str(out)])
    assert "TSN with C, ResNet" in out.with_suffix(".md").read_text()


def test_a_step_that_a_training_removes_meanwhile_is_chosen_anew(runs, tmp_path, monkeypatch):
    shutil.copytree(runs[0], tmp_path / "run")
    folder = tmp_path / "run" / "checkpoints"
    shutil.copytree(folder / "12", folder / "16")
    read_meta = trained_run.read_meta

    def removed_first(directory, step):
        shutil.rmtree(folder / "12", ignore_errors=True)
        return read_meta(directory, step)

    monkeypatch.setattr(trained_run, "read_meta", removed_first)
    assert choose_step(folder, "best") == 12
    assert open_run(tmp_path / "run").step == 16
    with pytest.raises(UserError, match="has the steps 16"):
        open_run(tmp_path / "run", "12")


def test_steps_that_are_not_there_are_named(runs, tmp_path):
    checkpoints = runs[0] / "checkpoints"
    assert choose_step(checkpoints, "best") == choose_step(checkpoints, "latest") == 12
    assert choose_step(checkpoints, "12") == 12
    with pytest.raises(UserError, match="has the steps 12; give one of them, best or latest"):
        choose_step(checkpoints, "13")
    with pytest.raises(UserError, match="train first"):
        choose_step(tmp_path, "latest")
