"""eval.py's views, crops and averages; a killed test that goes on; weights without a run."""

import json
import os
import random
import subprocess
from pathlib import Path

import numpy as np
import pytest

from aia_jax.checkpoints.trained_run import open_run
from aia_jax.data.pipeline import eval_batches
from aia_jax.data.views import Views
from aia_jax.errors import UserError
from aia_jax.evaluation import scoring
from aia_jax.evaluation.score_files import read_scores
from aia_jax.evaluation.scores import average_views
from aia_jax.models.preprocess import preprocessing
from aia_jax.shards.reader import open_split
from aia_jax.weights.files import save_folder
from tests.helpers.tiny_checkpoint import make_run
from tests.helpers.tiny_data import make_dataset
from tests.helpers.tiny_run import command, make_recipe, refused, run_here

CLASSES = ("moving left", "moving right", "standing")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run on frames that are wider than high."""
    folder = tmp_path_factory.mktemp("made")
    recipe = make_recipe(folder, size=(16, 23))
    make_run(folder / "run", recipe, ["data.resize=short16"], CLASSES, {"top1": 0.5})
    return folder / "run"


def evaluate(workdir: Path, out: Path, *arguments: str) -> subprocess.CompletedProcess:
    return run_here("eval.py", None, workdir, "--out", str(out), *arguments)


def test_views_crops_and_averages(made, tmp_path):
    many = ["--views", "2x3", "--crop", "14", "--view-scores"]
    done = evaluate(made, tmp_path, *many)
    assert done.returncode == 0 and "2x3 views" in done.stdout, done.stderr
    scores = read_scores(tmp_path / "scores" / "validation_4x3x2_12_crop14.npz")
    run, reader = open_run(made), open_split(open_run(made).data_dir, "validation")
    (batch,) = eval_batches(reader, 9, 4, 14, Views(2, 3), resize="short16", prefetch=0)
    clips = preprocessing(run.model)(batch["clips"].reshape(-1, 4, 14, 14, 3))
    expected = np.asarray(run.model.apply(run.variables, clips, train=False)).reshape(9, 6, 3)
    np.testing.assert_allclose(scores.view_logits, expected, rtol=1e-4, atol=1e-4)
    assert np.ptp(expected, axis=1).max() > 0.01  # views differ
    np.testing.assert_array_equal(scores.logits, average_views(scores.view_logits, "logits"))
    assert scores.ids.tolist() == [f"validation_{k}" for k in range(9)]
    assert scores.labels.tolist() == [0, 1, 2] * 3 and scores.evaluated.all()
    assert (scores.about.resize, scores.about.crop_size, scores.about.views) == ("short16", 14, 6)
    assert not list((tmp_path / "scores").glob("*.partial"))

    done = evaluate(made, tmp_path, *many, "--average", "probabilities")
    assert done.returncode == 0, done.stderr
    other = read_scores(tmp_path / "scores" / "validation_4x3x2_12_crop14_probabilities.npz")
    np.testing.assert_array_equal(other.view_logits, scores.view_logits)
    np.testing.assert_array_equal(other.logits, average_views(scores.view_logits, "probabilities"))
    last = json.loads((tmp_path / "eval.json").read_text())
    assert last["averaging"] == "probabilities" and last["top1"] == np.mean(
        other.logits.argmax(1) == other.labels
    )
    assert len(list((tmp_path / "scores").iterdir())) == 4  # nothing replaced another


def test_an_interrupted_test_goes_on_and_gives_the_same_bits(made, tmp_path, monkeypatch):
    views = ["--views", "2x1", "--view-scores", "--config.eval.batch_size=4"]  # 2 videos a batch
    assert evaluate(made, tmp_path / "whole", *views).returncode == 0
    calls = []

    def break_off(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return average_views(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(scoring, "average_views", break_off)
        assert evaluate(made, tmp_path / "out", *views).returncode == 1
    (journal,) = (tmp_path / "out" / "scores").glob("*.partial")
    assert not (tmp_path / "out" / "eval.json").exists()
    done = evaluate(made, tmp_path / "out", *views)
    assert done.returncode == 0, done.stderr
    assert "note: 4 of 9 videos have scores already" in done.stdout and not journal.exists()
    name = Path("scores") / "validation_4x1x2_12.npz"
    whole, joined = read_scores(tmp_path / "whole" / name), read_scores(tmp_path / "out" / name)
    np.testing.assert_array_equal(joined.view_logits, whole.view_logits)
    np.testing.assert_array_equal(joined.logits, whole.logits)
    assert joined.about == whole.about and joined.evaluated.all()


def test_a_result_that_could_not_be_written_needs_no_second_evaluation(made, tmp_path, monkeypatch):
    import eval as evaluation

    def full_disk(*_):
        raise UserError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(evaluation, "write_result", full_disk)
        failed = evaluate(made, tmp_path)
    assert failed.returncode == 2 and "9 of 9 videos evaluated" in failed.stdout
    done = evaluate(made, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "note: 9 of 9 videos have scores already" in done.stdout
    assert read_scores(tmp_path / "scores" / "validation_4x1x1_12.npz").evaluated.all()


def test_two_hosts_evaluate_every_video_once(made, tmp_path):
    assert evaluate(made, tmp_path / "one", "--views", "2x1").returncode == 0
    port = random.Random(os.getpid() + 1).randrange(20000, 40000)
    hosts = [
        subprocess.Popen(
            command("eval.py", None, made, "--views", "2x1", "--out", str(tmp_path / "two")),
            env=os.environ
            | {
                "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
                "JAX_NUM_PROCESSES": "2",
                "JAX_PROCESS_ID": str(index),
                "JAX_PLATFORMS": "cpu",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    for host in hosts:
        _, err = host.communicate(timeout=300)
        assert host.returncode == 0, err
    name = Path("scores") / "validation_4x1x2_12.npz"
    one, two = read_scores(tmp_path / "one" / name), read_scores(tmp_path / "two" / name)
    assert two.evaluated.all()
    np.testing.assert_allclose(two.logits, one.logits, rtol=1e-4, atol=1e-5)


def test_weights_that_no_run_trained_are_tested_by_the_names_of_their_classes(made, tmp_path):
    run = open_run(made)
    data = {"num_frames": 4, "crop": 12, "resize": "short16", "sampling": "reference"}
    facts = {"model": run.config.model.to_dict(), "data": data}
    save_folder(tmp_path / "named", run.variables, facts | {"class_names": list(CLASSES)})
    save_folder(tmp_path / "bare", run.variables, facts)
    assert evaluate(made, tmp_path / "run").returncode == 0
    expected = read_scores(tmp_path / "run" / "scores" / "validation_4x1x1_12.npz")
    order = [2, 0, 1]
    swapped = make_dataset(
        tmp_path / "swapped",
        classes=[CLASSES[label] for label in order],
        videos_per_class={"train": 6, "validation": 3},
        frames=6,
        size=(16, 23),
    )

    def of_weights(name: str, data: Path, *arguments: str) -> subprocess.CompletedProcess:
        network = ["--weights", str(tmp_path / name), "--data", str(data)]
        network += ["--config.data.workers=0", "--config.eval.batch_size=4"]
        return run_here("eval.py", None, None, *network, *arguments)

    for name in ("named", "bare"):
        done = of_weights(name, run.data_dir)
        assert done.returncode == 0, done.stderr
        found = read_scores(tmp_path / name / "scores" / "validation_4x1x1_weights.npz")
        np.testing.assert_array_equal(found.logits, expected.logits)
        assert found.class_names == CLASSES and found.about.weights == expected.about.weights
        assert ("does not name its classes" in done.stdout) == (name == "bare")
    done = of_weights("named", swapped)
    assert done.returncode == 0 and "matched by name" in done.stdout, done.stderr
    found = read_scores(next((tmp_path / "named" / "scores").glob("*weights_*.npz")))
    assert found.class_names == CLASSES and found.labels.tolist() == order * 3

    other = make_dataset(tmp_path / "other", classes=["moving left", "jump", "standing"])
    refused(of_weights("named", other), "'jump'", "class 1", str(other))
    two = make_dataset(tmp_path / "two", classes=["a", "b"])
    refused(of_weights("bare", two), "2 classes", "3")
    alone = run_here("eval.py", None, None, "--weights", str(tmp_path / "named"))
    refused(alone, "no data are named", "--data DIR")
    names = tmp_path / "names.txt"
    names.write_text("moving left\nstanding\n")
    refused(of_weights("bare", run.data_dir, "--classes", str(names)), str(names), "2", "3")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--views", "3x1"], ["--views 3x1", "1, 2, 10"]),
        (["--views", "1x2"], ["--views 1x2", "1, 3, 5, 10"]),
        (["--crop", "0"], ["--crop 0", "1 to 32", "short16"]),
        (["--crop", "33"], ["--crop 33"]),
        (["--crop", "wide"], ["--crop wide", "pixels"]),
        (["--average", "softmax"], ["--average softmax", "logits or probabilities"]),
        (["--classes", "names.txt"], ["--classes", "--weights"]),
        (["--data", "nowhere"], ["nowhere", "does not exist"]),
    ],
)
def test_what_cannot_be_tested_is_refused(made, tmp_path, arguments, words):
    refused(evaluate(made, tmp_path / "out", *arguments), *words)
    assert not (tmp_path / "out").exists()


def test_crops_larger_than_the_frames_are_said(made, tmp_path):
    done = evaluate(made, tmp_path, "--crop", "18")
    assert done.returncode == 0, done.stderr
    assert "note: crops of 18 pixels hang over frames of short16: black there" in done.stdout


def test_scores_that_are_not_finite_are_refused_with_the_video(made, tmp_path, monkeypatch):
    recipe = make_recipe(tmp_path / "made")
    make_run(tmp_path / "run", recipe, [], CLASSES, {"top1": 0.5})
    import eval as evaluation

    real = evaluation.open_run

    def broken(*arguments, **more):
        run = real(*arguments, **more)
        run.variables["params"]["head"]["kernel"][:] = np.nan
        return run

    monkeypatch.setattr(evaluation, "open_run", broken)
    refused(evaluate(tmp_path / "run", tmp_path / "out"), "validation_0", "NaN")
