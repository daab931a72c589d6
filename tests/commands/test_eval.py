"""eval.py tests a run as it was trained, on the data that it was trained with, or says so."""

import json
import shutil
from pathlib import Path

import pytest

from aia_jax.checkpoints import digest
from aia_jax.lock import FolderLock
from tests.helpers.tiny_checkpoint import make_run
from tests.helpers.tiny_data import make_dataset
from tests.helpers.tiny_run import make_recipe, refused, run_here

CLASSES = ("moving left", "moving right", "standing")
DATA = {"videos_per_class": {"train": 6, "validation": 3}, "frames": 6, "size": (16, 16)}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A recipe, and a run of it that overrides two fields."""
    folder = tmp_path_factory.mktemp("made")
    recipe = make_recipe(folder)
    overrides = ["data.resize=14,14", "optim.lr=0.2"]
    make_run(folder / "run", recipe, overrides, CLASSES, {"top1": 0.5})
    return recipe, folder / "run"


def results(out: Path) -> dict[str, dict]:
    return {path.name: json.loads(path.read_text()) for path in (out / "scores").glob("*.json")}


def numbers(report: dict) -> tuple:
    return tuple(report[name] for name in ("top1", "top5", "loss", "evaluated", "expected"))


def test_a_run_is_tested_as_it_was_trained_with_or_without_its_recipe(made, tmp_path):
    recipe, workdir = made
    with FolderLock(workdir):  # a training is under way
        done = run_here("eval.py", None, workdir, "--out", str(tmp_path / "bare"))
    assert done.returncode == 0 and "note:" not in done.stdout, done.stderr + done.stdout
    bare = json.loads((tmp_path / "bare" / "eval.json").read_text())
    assert bare["overrides"] == {} and bare["config"] == "tiny" and bare["evaluated"] == 9
    assert bare["trained_with"] == ["data.resize=14,14", "optim.lr=0.2"]
    assert bare["data"]["is_the_runs"] and bare["network"].startswith("TSN with C")
    assert results(tmp_path / "bare") == {"validation_4x1x1_12.json": bare}

    done = run_here("eval.py", recipe, workdir, "--out", str(tmp_path / "recipe"))
    assert done.returncode == 0, done.stderr
    assert "data.resize 14,14 (the recipe has 16,16)" in done.stdout
    by_recipe = json.loads((tmp_path / "recipe" / "eval.json").read_text())
    assert numbers(by_recipe) == numbers(bare) and by_recipe["weights"] == bare["weights"]


def test_overrides_are_said_and_no_result_replaces_another(made, tmp_path):
    _, workdir = made
    out = ["--out", str(tmp_path)]
    assert run_here("eval.py", None, workdir, *out).returncode == 0
    assert run_here("eval.py", None, workdir, *out, "--split", "train").returncode == 0
    assert json.loads((tmp_path / "eval.json").read_text())["split"] == "train"  # the last one
    done = run_here("eval.py", None, workdir, *out, "--config.data.resize=16,16")
    assert done.returncode == 0, done.stderr
    assert "with data.resize=16,16 instead of 14,14: top-1" in done.stdout
    found = results(tmp_path)
    assert found.keys() == {
        "validation_4x1x1_12.json",
        "train_4x1x1_12.json",
        "validation_4x1x1_12_data.resize=16,16.json",
    }
    other = found["validation_4x1x1_12_data.resize=16,16.json"]
    assert other["overrides"] == {"data.resize": {"trained": [14, 14], "tested": [16, 16]}}
    assert numbers(other) != numbers(found["validation_4x1x1_12.json"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--config.model.temporal=tsm"], ["model.temporal=tsm", "trained with tsn"]),
        (["--config.model.depth=101"], ["model.depth=101", "trained with 50"]),
        (["--config.data.num_classes=4"], ["data.num_classes=4", "trained with 3"]),
        (["--config.data.crup=9"], ["data.crup", "data.crop"]),
        (["--split", "test"], ["'test'", "validation"]),
        (["--step", "7"], ["12"]),
    ],
)
def test_what_cannot_be_meant_is_refused(made, tmp_path, arguments, words):
    refused(run_here("eval.py", None, made[1], "--out", str(tmp_path / "out"), *arguments), *words)
    assert not (tmp_path / "out").exists()


def test_results_that_cannot_be_written_are_refused_before_the_work(made, tmp_path):
    (tmp_path / "file").write_text("")
    out = str(tmp_path / "file" / "out")
    refused(run_here("eval.py", None, made[1], "--out", out), "--out", out, "cannot be written")


def test_neither_recipe_nor_folder_is_argparses_line(made):
    import eval as command

    with pytest.raises(SystemExit) as stopped:
        command.main([])
    assert stopped.value.code == 2


def test_the_data_are_found_from_another_folder_and_in_another_place(tmp_path, monkeypatch):
    recipe = make_recipe(tmp_path / "home")
    monkeypatch.chdir(tmp_path / "home")
    make_run(Path("run"), recipe, ["data.dir=data"], CLASSES, {"top1": 0.5})
    # A folder of the same name, with other videos, where the command is given.
    make_dataset(tmp_path / "elsewhere" / "data", **DATA, seed=1)
    monkeypatch.chdir(tmp_path / "elsewhere")
    done = run_here("eval.py", None, tmp_path / "home" / "run")
    assert done.returncode == 0 and "note:" not in done.stdout, done.stderr
    report = json.loads((tmp_path / "home" / "run" / "eval.json").read_text())
    assert report["data"]["dir"] == str(tmp_path / "home" / "data")

    shutil.move(tmp_path / "home" / "data", tmp_path / "moved")
    refused(run_here("eval.py", None, tmp_path / "home" / "run"), "other pictures", "validation")
    moved = f"--config.data.dir={tmp_path / 'moved'}"
    done = run_here("eval.py", None, tmp_path / "home" / "run", moved)
    assert done.returncode == 0 and "instead of" not in done.stdout, done.stderr
    again = json.loads((tmp_path / "home" / "run" / "eval.json").read_text())
    assert numbers(again) == numbers(report) and again["overrides"] == {}

    other = "--config.data.dir=data"  # meant, as it is said
    done = run_here("eval.py", None, tmp_path / "home" / "run", other)
    assert done.returncode == 0 and "with data.dir=data instead of" in done.stdout, done.stderr
    assert "is not what the run was trained with" in done.stdout
    assert len(results(tmp_path / "home" / "run")) == 2


def test_a_damaged_best_checkpoint_is_refused_and_not_replaced_by_another(made, tmp_path):
    recipe, reference = made
    workdir = shutil.copytree(reference, tmp_path / "run")
    make_run(workdir, recipe, [], CLASSES, {"top1": 0.4}, step=16)
    meta = workdir / "checkpoints" / "12" / digest.META
    meta.write_bytes(meta.read_bytes().replace(b"0.5", b"0.1"))
    refused(run_here("eval.py", None, workdir), "best", str(meta), "step 16 is whole", "--step")
    assert run_here("eval.py", None, workdir, "--step", "16").returncode == 0
