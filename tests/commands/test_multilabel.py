"""Data with several labels a video, through the real commands."""

import json
import re

import jax
import numpy as np
import pytest

import aia_jax
from aia_jax.checkpoints.trained_run import open_run
from aia_jax.evaluation.multilabel import mean_average_precision
from aia_jax.evaluation.score_files import read_scores
from aia_jax.export.__main__ import main as export
from aia_jax.prediction.functions import clip_logits
from aia_jax.weights.hub import write_hub_folder
from tests.helpers.raw_videos import numbered_frames, write_frames
from tests.helpers.tiny_data import make_dataset
from tests.helpers.tiny_run import RECIPE, refused, run_here

CLASSES = ("pour", "sit", "stir")
SETS = ((0,), (0, 2), (1,), (0, 1, 2))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of one epoch on videos of one to three classes."""
    folder = tmp_path_factory.mktemp("sets")
    rows = ["path,label,split"]
    for split, count in (("train", 8), ("validation", 9)):
        for video in range(count):
            frames = write_frames(folder / f"raw/{split}_{video}", numbered_frames(6, 16, 16))
            labels = ";".join(CLASSES[label] for label in SETS[video % 4])
            rows.append(f"{frames.name},{labels},{split}")
    (folder / "raw/videos.csv").write_text("\n".join(rows))
    prepare = ("csv", "--raw", str(folder / "raw"), "--out", str(folder / "data"), "--multi-label")
    done = run_here("prepare_data.py", None, None, *prepare, "--size", "16x16", "--workers", "1")
    assert done.returncode == 0, done.stderr
    recipe = folder / "sets.py"
    recipe.write_text(RECIPE.format(data=str(folder / "data")))
    overrides = ("--config.train.epochs=1", "--config.model.attention=none")
    done = run_here("train.py", recipe, folder / "run", *overrides)
    assert done.returncode == 0, done.stderr
    return folder / "run"


def test_training_and_a_test_give_the_same_map(trained):
    done = run_here("eval.py", None, trained)
    assert done.returncode == 0, done.stderr
    result = json.loads((trained / "eval.json").read_text())
    run = open_run(trained)
    for name in ("map", "top1", "top5", "loss"):
        assert result[name] == pytest.approx(run.metrics[name], rel=1e-4), name
    assert f"mAP {result['map']:.2%}" in done.stdout
    assert {"mean_class_accuracy", "ece"}.isdisjoint(result)

    scores = read_scores(next((trained / "scores").glob("*.npz")))
    assert len(scores) == 9 and scores.class_names == CLASSES
    for row, video in enumerate(scores.ids.tolist()):
        labels = SETS[int(re.search(r"validation_(\d)", video)[1]) % 4]
        assert np.flatnonzero(scores.labels[row]).tolist() == list(labels)
    assert result["map"] == mean_average_precision(scores.logits, scores.labels)


def test_averaged_probabilities_are_those_of_the_sigmoid(trained):
    options = ("--views", "2x1", "--average", "probabilities", "--view-scores")
    done = run_here("eval.py", None, trained, *options)
    assert done.returncode == 0, done.stderr
    scores = read_scores(next((trained / "scores").glob("*_probabilities.npz")))
    views = 1 / (1 + np.exp(-scores.view_logits.astype(np.float64)))
    np.testing.assert_allclose(scores.probabilities(), views.mean(1), rtol=1e-5)


def test_predictions_exports_and_folders_have_a_probability_for_each_class(
    trained, tmp_path, capsys
):
    video = write_frames(tmp_path / "video", numbered_frames(6, 16, 16))
    done = run_here("predict.py", None, trained, str(video), "--json")
    classes = json.loads(done.stdout)["classes"]
    network = aia_jax.load(trained)
    found = network.predict(video)
    shares = {one["label"]: one["probability"] for one in classes}
    sigmoid = 1 / (1 + np.exp(-found.logits[0].astype(np.float64)))
    np.testing.assert_allclose([shares[label] for label in range(3)], sigmoid, rtol=1e-5)

    between = (classes[0]["probability"] + classes[1]["probability"]) / 2
    line = ("predict.py", None, trained, str(video), "--threshold", f"{between:.6f}")
    likely = json.loads(run_here(*line, "--json").stdout)["classes"]
    assert likely == classes[:1]
    assert found.above(between) == [[(classes[0]["name"], classes[0]["probability"])]]
    assert "stir" in (text := run_here(*line[:-1], "0.000001").stdout) and "%" in text
    assert "—" in run_here(*line[:-1], "1").stdout  # no class is so likely
    refused(run_here(*line[:-1], "1.5"), "--threshold 1.5", "above 0 and up to 1")
    windows = run_here(*line[:-2], "--window", "0.3", "--fps", "12", "--threshold", "1")
    assert windows.returncode == 0 and "—" in windows.stdout
    windows = run_here(*line[:-2], "--window", "0.3", "--fps", "12", "--threshold", "1", "--csv")
    assert windows.stdout.splitlines() == ["video,start,end,rank,class,label,probability"]

    export(["--workdir", str(trained), "--out", str(tmp_path / "model.bin")])
    program = jax.export.deserialize((tmp_path / "model.bin").read_bytes())
    clips = np.random.default_rng(0).integers(0, 256, (2, *network.run.clip_shape), np.uint8)
    logits = jax.jit(clip_logits(network.model))(network.variables, clips)
    np.testing.assert_allclose(program.call(clips), jax.nn.sigmoid(logits), rtol=1e-4)
    assert json.loads((tmp_path / "model.json").read_text())["label_kind"] == "multi"
    assert "if p >= 0.5" in (tmp_path / "model.md").read_text()

    write_hub_folder(tmp_path / "hub", network.run)
    page = (tmp_path / "hub/README.md").read_text()
    assert "| mAP, % | top-1, % |" in page and "type: mean_average_precision" in page
    assert f" {100 * network.run.metrics['map']:.4g} |" in page and ".above(0.5)" in page
    again = aia_jax.load(tmp_path / "hub")
    assert again.run.multilabel
    np.testing.assert_array_equal(again.predict(video).probabilities, found.probabilities)


def test_data_of_another_kind_are_refused(trained, tmp_path):
    single = make_dataset(tmp_path / "single", 2, frames=6, size=(16, 16))
    done = run_here("eval.py", None, trained, "--data", str(single))
    refused(done, "one label a video", "several labels", "--config.data.label_kind=single")
