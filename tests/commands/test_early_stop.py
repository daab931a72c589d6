"""train.val_every, best_by and patience: what is validated, what is best, and where a run ends."""

import dataclasses
import json

import pytest

import train as train_command
from aia_jax.checkpoints.files import best_step, committed_steps, read_meta
from tests.helpers.tiny_run import make_recipe, refused, rows, run_here

FLAGS = ("--config.train.best_by=loss", "--config.train.val_every=2", "--config.train.patience=2")


def test_some_epochs_are_validated_and_a_run_ends_early_and_goes_on_exactly(tmp_path, monkeypatch):
    """Epochs have 4 steps, and every second one is validated; the losses that are found are given.

    The second validation is the best one.
    """
    recipe, workdir = make_recipe(tmp_path), tmp_path / "run"
    checkpoints, evaluate, losses = workdir / "checkpoints", train_command.evaluate, []
    monkeypatch.setattr(
        train_command,
        "evaluate",
        lambda *given: dataclasses.replace(evaluate(*given), loss=losses.pop(0)),
    )

    def train(*flags: str) -> str:
        settings = (*FLAGS, "--config.train.epochs=9", *flags)
        done = run_here("train.py", recipe, workdir, *settings)
        assert done.returncode == 0 and not losses, done.stderr
        return done.stdout

    losses[:] = 1.5, 0.5, 0.75, 0.5
    said = train()
    assert "best by" in said and "ends early after 2 validations without a better one" in said
    end = "finished early, after step 32 of 36: the last 2 validations had no better loss"
    assert end in said and "the best is step 16, loss 0.5000 in validation" in said
    assert f"python eval.py --workdir {workdir} --step 16" in said
    assert committed_steps(checkpoints) == [16, 28, 32] and best_step(checkpoints) == 16
    whole = rows(workdir)
    assert [row["step"] for row in whole if row["split"] == "validation"] == [8, 16, 24, 32]

    # A finished run takes no step, and stays finished.
    said = train("--config.optim.lr=0.04")
    assert (
        end in said and "the run is finished: no step is taken" in said and rows(workdir) == whole
    )

    # From an earlier step it ends where it had ended; what was counted up to there is known there.
    leaves = json.loads((checkpoints / "32" / "leaves" / "metadata").read_bytes())
    meta = read_meta(checkpoints, 32)
    assert meta["metrics"]["loss"] == 0.5 and read_meta(checkpoints, 28)["metrics"] is None
    losses[:] = (0.5,)
    assert end in train("--resume_from=28")
    assert rows(workdir) == whole and read_meta(checkpoints, 32) == meta
    assert json.loads((checkpoints / "32" / "leaves" / "metadata").read_bytes()) == leaves

    # More patience goes on. The last epoch is validated, though it is the ninth.
    losses[:] = (0.25,)
    said = train("--config.train.patience=3")
    assert "finished\nthe best is step 36, loss 0.2500" in said
    assert best_step(checkpoints) == 36


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--config.train.best_by=map", ("train.best_by: found map", "mean_class_accuracy")),
        ("--config.train.best_by=top2", ("train.best_by", "'top2'", "mean_class_accuracy")),
        ("--config.train.patience=-1", ("train.patience", "at least 0")),
    ],
)
def test_a_metric_that_the_data_do_not_have_is_refused_before_anything_is_made(
    tmp_path, flag, words
):
    recipe = make_recipe(tmp_path)
    refused(run_here("train.py", recipe, tmp_path / "run", flag), *words)
    assert not (tmp_path / "run").exists()
