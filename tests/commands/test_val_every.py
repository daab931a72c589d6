"""train.val_every: every epoch has a checkpoint, some are validated; restarts change nothing."""

import json

from aia_jax.checkpoints.files import committed_steps, read_meta
from tests.helpers.tiny_run import make_recipe, rows, run_here


def test_some_epochs_are_validated_and_the_best_is_one_of_them(tmp_path):
    """Epochs have 4 steps."""
    recipe, workdir = make_recipe(tmp_path), tmp_path / "run"
    checkpoints = workdir / "checkpoints"

    def train(epochs: int, *flags: str):
        fields = (f"--config.train.epochs={epochs}", "--config.train.val_every=2")
        done = run_here("train.py", recipe, workdir, *fields, *flags)
        assert done.returncode == 0, done.stderr
        return done

    def validated() -> list[dict]:
        return [row for row in rows(workdir) if row["split"] == "validation"]

    assert "validation every 2 epochs" in train(2).stdout
    whole, leaves = rows(workdir), (checkpoints / "8" / "leaves" / "metadata").read_bytes()
    assert [row["step"] for row in validated()] == [8]
    assert read_meta(checkpoints, 4)["metrics"] is None

    # A run that goes on from an epoch without validation goes on at once.
    train(2, "--resume_from=4")
    assert rows(workdir) == whole
    again = (checkpoints / "8" / "leaves" / "metadata").read_bytes()
    assert json.loads(again) == json.loads(leaves)

    # The last epoch is validated, though it is the fifth.
    longer = train(5)
    assert [row["step"] for row in validated()] == [8, 16, 20]
    best = max(validated(), key=lambda row: row["top1"])["step"]
    assert f"the best is step {best}" in longer.stdout
    assert {20, best} <= set(committed_steps(checkpoints))
