"""`python -m aia_jax.evaluation features`: one vector a video, and the probe of the docs."""

import json
import re

import jax
import numpy as np
import pytest

from aia_jax.checkpoints.trained_run import open_run
from aia_jax.data.pipeline import eval_batches
from aia_jax.data.views import Views
from aia_jax.errors import exit_status
from aia_jax.evaluation.__main__ import main
from aia_jax.models.preprocess import preprocessing
from aia_jax.shards.reader import open_split
from tests.helpers.paths import ROOT
from tests.helpers.raw_videos import numbered_frames, write_video
from tests.helpers.tiny_checkpoint import make_run
from tests.helpers.tiny_run import make_recipe, session_compile_cache

CLASSES = ("moving left", "moving right", "standing")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a run, its data, and the features of both splits."""
    folder = tmp_path_factory.mktemp("made")
    recipe = make_recipe(folder)
    make_run(folder / "run", recipe, [], CLASSES, {"top1": 0.5})
    for split in ("train", "validation"):
        assert features(folder, "--split", split, "--out", folder / f"{split}.npz") == 0
    return folder


def features(folder, *arguments) -> int:
    line = ["features", str(folder / "run"), *map(str, arguments)]
    with session_compile_cache():
        return exit_status(lambda: main(line))


def test_each_video_has_the_mean_of_its_last_map_once(made):
    found, run = np.load(made / "validation.npz"), open_run(made / "run")
    reader = open_split(made / "data", "validation")
    (batch,) = eval_batches(reader, 9, 4, 12, resize=(16, 16), prefetch=0)
    pixels = preprocessing(run.model)(batch["clips"])
    maps = jax.jit(lambda clips: run.model.apply(run.variables, clips, method="features"))(pixels)
    np.testing.assert_allclose(found["features"], maps.mean((1, 2, 3)), rtol=1e-4, atol=1e-5)
    assert found["ids"].tolist() == [reader.index.video_id(record) for record in range(9)]
    assert found["labels"].tolist() == batch["labels"].tolist()
    assert found["class_names"].tolist() == list(CLASSES)
    about = json.loads(str(found["about"]))
    assert about["step"] == run.step and about["weights"] == run.weights_fingerprint()
    assert about["data"]["split"] == "validation" and about["resize"] == "16x16"
    assert np.load(made / "train.npz")["features"].shape == (18, found["features"].shape[1])


def test_the_probe_of_the_docs_runs(made, monkeypatch, capsys):
    text = (ROOT / "docs" / "evaluation.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    monkeypatch.chdir(made)
    exec(code, {})
    assert re.fullmatch(r"linear probe: top-1 \d+\.\d%\n", capsys.readouterr().out)


def test_files_have_vectors_too_and_bad_ones_are_named(made, tmp_path, capsys):
    good = [
        write_video(tmp_path / f"{count}.mp4", numbered_frames(count, 30, 42)) for count in (5, 9)
    ]
    (tmp_path / "bad.mp4").write_text("no video")
    arguments = "--out", tmp_path / "found.npz", "--views", "2x3", "--videos"
    status = features(made, *arguments, good[0], tmp_path / "bad.mp4", good[1])
    printed = capsys.readouterr()
    assert status == 1 and "bad.mp4: " in printed.err and "2 videos" in printed.out
    found = np.load(tmp_path / "found.npz")
    assert found["ids"].tolist() == [str(path) for path in good]
    assert found["labels"].tolist() == [-1, -1] and found["features"].shape[0] == 2
    assert json.loads(str(found["about"]))["clips"] == Views(2, 3).clips
    (tmp_path / "found.npz").unlink()
    assert features(made, *arguments, tmp_path / "bad.mp4") == 2
    assert not (tmp_path / "found.npz").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--out", "found.txt"], "must end with .npz"),
        (["--out", "nowhere/found.npz"], "there is no folder nowhere"),
        (["--out", "a.npz", "--views", "3x1"], "--views 3x1"),
        (["--out", "a.npz", "--split", "test"], "test"),
        (["--out", "a.npz", "--label", "verb"], "verb"),
        (["--out", "a.npz", "--data", "nowhere"], "nowhere"),
        (["--out", "a.npz", "--data", "d", "--videos", "a.mp4"], "give it or --videos"),
        (["--out", "a.npz", "--step", "7"], "--step 7"),
    ],
)
def test_wrong_input_is_one_line_and_status_2(made, tmp_path, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(tmp_path)
    assert features(made, *arguments) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1
    assert not list(tmp_path.iterdir())
