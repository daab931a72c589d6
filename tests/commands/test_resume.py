"""train.py goes on with a run on its own data, in its own network, and alone in its folder."""

import json
import shutil

import pytest

import train as train_command
from aia_jax.checkpoints import digest
from aia_jax.checkpoints.files import committed_steps, read_meta
from aia_jax.errors import DataError
from aia_jax.lock import LOCK, FolderLock
from tests.helpers.tiny_checkpoint import make_run
from tests.helpers.tiny_data import make_dataset
from tests.helpers.tiny_run import make_recipe, refused, rows, run_here

CLASSES = ("moving left", "moving right", "standing")
DATA = {"videos_per_class": {"train": 6, "validation": 3}, "frames": 6, "size": (16, 16)}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A recipe, and a finished run of it."""
    folder = tmp_path_factory.mktemp("made")
    recipe = make_recipe(folder)
    make_run(folder / "run", recipe, [], CLASSES, {"top1": 0.5})
    return recipe, folder / "run"


@pytest.fixture
def finished(made, tmp_path):
    """The recipe, and a copy of its finished run."""
    return made[0], shutil.copytree(made[1], tmp_path / "run")


def test_a_second_run_in_a_folder_is_refused_and_touches_nothing(finished):
    recipe, workdir = finished
    half_written = workdir / "checkpoints" / "16.orbax-checkpoint-tmp"
    half_written.mkdir()  # by the first run
    with FolderLock(workdir):
        refused(run_here("train.py", recipe, workdir), "in use by process", "on host", "--workdir")
        assert half_written.exists() and not (workdir / "run.json").exists()
    done = run_here("train.py", recipe, workdir)
    assert done.returncode == 0 and not half_written.exists(), done.stderr
    assert (workdir / LOCK).read_bytes() == b""


def test_other_data_are_refused_unless_they_are_meant(finished, tmp_path):
    recipe, workdir = finished
    data = make_dataset(tmp_path / "data", **DATA, seed=1)
    other = f"--config.data.dir={data}"
    refused(
        run_here("train.py", recipe, workdir, other),
        *(str(data), "split train", "other pictures", "changed_on_purpose"),
    )
    done = run_here("train.py", recipe, workdir, other, "--config.data.changed_on_purpose=true")
    assert done.returncode == 0 and "is not what the run was trained with" in done.stdout
    shutil.rmtree(data)
    make_dataset(data, **DATA | {"videos_per_class": {"train": 8, "validation": 3}})
    refused(run_here("train.py", recipe, workdir, other), "it had 18 videos, now it has 24")


def test_the_same_data_in_another_place_are_the_run_s(finished, made, tmp_path):
    recipe, workdir = finished
    copy = shutil.copytree(recipe.parent / "data", tmp_path / "moved")
    done = run_here("train.py", recipe, workdir, f"--config.data.dir={copy}")
    assert done.returncode == 0 and "trained with" not in done.stdout, done.stdout


def test_a_checkpoint_of_an_older_version_goes_on_with_one_note(finished):
    recipe, workdir = finished
    folder = workdir / "checkpoints" / "12"
    meta = read_meta(folder.parent, 12)
    older = {key: meta[key] for key in ("config", "class_names", "position", "metrics")}
    (folder / digest.META).write_text(json.dumps(older))
    digest.seal(folder)
    done = run_here("train.py", recipe, workdir)
    assert done.returncode == 0 and done.stdout.count("of an older version") == 1, done.stderr


def test_a_refused_run_sets_no_step_aside(finished):
    recipe, workdir = finished
    make_run(workdir, recipe, [], CLASSES, {"top1": 0.4}, step=8)
    for problem in ("--config.model.temporal=tsm", "--config.seed=5"):
        refused(run_here("train.py", recipe, workdir, "--resume_from=8", problem))
    assert committed_steps(workdir / "checkpoints") == [8, 12]


def test_a_step_whose_score_cannot_be_read_stays_and_is_said(finished):
    recipe, workdir = finished
    for step in (4, 8):
        make_run(workdir, recipe, [], CLASSES, {"top1": 0.9}, step=step)
    meta = workdir / "checkpoints" / "4" / digest.META
    meta.write_bytes(meta.read_bytes().replace(b"0.9", b"0.1"))
    done = run_here("train.py", recipe, workdir)
    assert done.returncode == 0, done.stderr
    assert "note: checkpoint of step 4 is damaged" in done.stdout and "it stays" in done.stdout
    assert committed_steps(workdir / "checkpoints") == [4, 8, 12]


def test_a_damaged_best_step_is_said_when_the_run_goes_on(finished):
    recipe, workdir = finished
    make_run(workdir, recipe, [], CLASSES, {"top1": 0.9}, step=8)
    largest = max(
        (workdir / "checkpoints" / "8" / "state").rglob("d/*"), key=lambda path: path.stat().st_size
    )
    content = bytearray(largest.read_bytes())
    content[-1] ^= 1
    largest.write_bytes(content)
    done = run_here("train.py", recipe, workdir)
    assert done.returncode == 0, done.stderr
    assert "note: checkpoint of step 8 is damaged" in done.stdout and "best step" in done.stdout
    assert committed_steps(workdir / "checkpoints") == [8, 12]


def test_a_request_to_stop_is_asked_for_after_every_step(finished, monkeypatch):
    """Several hosts agree on one step, which may be the end of an epoch."""
    recipe, workdir = finished
    asked = []

    def at(self, step):
        asked.append(step)
        return step == 16  # the end of the fourth epoch

    monkeypatch.setattr(train_command.StopRequest, "at", at)
    done = run_here("train.py", recipe, workdir, "--config.train.epochs=5")
    assert done.returncode == 75 and "after step 16, saved" in done.stderr, done.stderr
    assert asked == [13, 14, 15, 16]
    assert read_meta(workdir / "checkpoints", 16)["metrics"] is None


def test_an_evaluation_batch_that_does_not_fit_is_found_before_the_first_step(
    finished, monkeypatch
):
    recipe, workdir = finished

    def does_not_fit(eval_step, variables, mesh, batch_size, clip_shape, label_shape):
        assert (batch_size, clip_shape) == (4, (4, 12, 12, 3))
        raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9 bytes.")

    monkeypatch.setattr(train_command, "try_eval_batch", does_not_fit)
    done = run_here("train.py", recipe, workdir, "--config.train.epochs=4")
    assert done.returncode == 1 and "lower --config.eval.batch_size (4)" in done.stderr
    assert not (workdir / "metrics.jsonl").read_text()


def test_known_damage_stops_a_run_before_anything_is_computed(finished, tmp_path):
    recipe, workdir = finished
    data = make_dataset(tmp_path / "data", **DATA, shards=1)
    (shard,) = data.glob("*-validation.tfrecord-*")
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 0xFF
    shard.write_bytes(content)
    flags = (f"--config.data.dir={data}", "--config.data.damaged_share=0")
    for folder in (workdir, tmp_path / "new"):
        done = run_here("train.py", recipe, folder, *flags)
        refused(done, "damaged", "0 of 9 allowed", "found 1", str(folder / "bad_records.txt"))
        assert not (folder / "run.json").exists()


def test_what_goes_wrong_in_validation_does_not_cost_the_epoch(tmp_path, monkeypatch):
    recipe, workdir = make_recipe(tmp_path), tmp_path / "run"

    def fails(*_):
        raise DataError("too many damaged records")

    with monkeypatch.context() as patch:
        patch.setattr(train_command, "evaluate", fails)
        done = run_here("train.py", recipe, workdir, "--config.train.epochs=1")
    refused(done, "too many damaged records")
    checkpoints = workdir / "checkpoints"
    assert committed_steps(checkpoints) == [4] and read_meta(checkpoints, 4)["metrics"] is None
    arrays = (checkpoints / "4" / "leaves" / "metadata").read_bytes()
    done = run_here("train.py", recipe, workdir, "--config.train.epochs=1")
    assert done.returncode == 0, done.stderr
    (validation,) = [row for row in rows(workdir) if row["split"] == "validation"]
    assert read_meta(checkpoints, 4)["metrics"]["top1"] == validation["top1"]
    assert (checkpoints / "4" / "leaves" / "metadata").read_bytes() == arrays

    # Killed after the metrics were written and before the row was.
    lines = (workdir / "metrics.jsonl").read_text().splitlines(keepends=True)
    (workdir / "metrics.jsonl").write_text("".join(lines[:-1]))
    done = run_here("train.py", recipe, workdir, "--config.train.epochs=1")
    assert done.returncode == 0 and rows(workdir)[-1] == validation, done.stderr
