"""aia_jax.load: it opens what it is given, and predicts as predict.py does."""

import dataclasses
import json
import logging
import shutil
import subprocess
import sys

import cv2
import jax
import numpy as np
import pytest

import aia_jax
import predict
from aia_jax.data.views import Views
from aia_jax.errors import UserError
from aia_jax.evaluation.features import features_of_files
from aia_jax.weights import to_torch
from aia_jax.weights.files import save_folder, write_state_dict
from aia_jax.weights.hub import write_hub_folder
from aia_jax.weights.open import GEOMETRY
from tests.helpers.raw_videos import numbered_frames, write_video
from tests.helpers.tiny_checkpoint import make_run
from tests.helpers.tiny_run import RECIPE, session_compile_cache

NAMES = ["up", "<down>", "still"]
CLIPS = {"num_frames": 4, "crop": 12, "resize": (18, 24), "sampling": "reference"}


@pytest.fixture(scope="module", autouse=True)
def programs_are_compiled_once():
    """The networks here are all the same, and most calls are of nine clips."""
    with session_compile_cache():
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run, the same as a folder of weights and as a file for PyTorch, and videos."""
    folder = tmp_path_factory.mktemp("load")
    recipe = folder / "tiny.py"
    recipe.write_text(RECIPE.format(data="nowhere"))
    make_run(folder / "run", recipe, ["data.resize=18,24"], NAMES, {})
    run = aia_jax.load(folder / "run").run
    data = {field: run.config.data[field] for field in GEOMETRY}
    about = {"model": run.config.model.to_dict(), "data": data, "class_names": NAMES}
    variables = jax.tree.map(np.asarray, dict(run.variables))
    save_folder(folder / "net", variables, about)
    write_state_dict(folder / "net.safetensors", to_torch(variables, run.model), NAMES)
    for number in range(3):
        frames = numbered_frames(9 + 4 * number, 30, 42, (255, 80 * number, 60))
        write_video(folder / "clips" / f"{number}.mp4", frames)
    return folder


@pytest.fixture(scope="module")
def net(folder):
    return aia_jax.load(folder / "run")


def test_importing_the_package_imports_nothing_else():
    code = "import sys, aia_jax; print({'jax', 'flax', 'numpy', 'cv2'} & set(sys.modules))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert printed.stdout == "set()\n", printed.stderr


def test_a_run_gives_the_numbers_of_predict_py(folder, net, capsys):
    views = "2x3"
    arguments = [folder / "clips" / "*.mp4", "--workdir", folder / "run", "--views", views]
    assert predict.main([*map(str, arguments), "--json"]) == 0
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    found = net.predict(str(folder / "clips" / "*.mp4"), views)
    assert found.ids == tuple(one["video"] for one in printed) and len(found) == 3
    assert found.views == views and np.ptp(found.probabilities, axis=0).max() > 0.01
    for one, row, classes in zip(printed, found.probabilities, found.top(2), strict=True):
        assert [row[shown["label"]] for shown in one["classes"]] == [
            np.float32(shown["probability"]) for shown in one["classes"]
        ]
        assert [name for name, _ in classes] == [shown["name"] for shown in one["classes"][:2]]
    softmax = np.exp(found.logits) / np.exp(found.logits).sum(1, keepdims=True)
    np.testing.assert_allclose(softmax, found.probabilities, rtol=1e-5)


def test_the_second_call_compiles_nothing(folder, net, caplog):
    videos = [folder / "clips" / f"{number}.mp4" for number in range(3)]
    net.predict(videos, "1x3")
    net.predict(videos, "2x3")
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        net.predict(videos[::-1], "2x3")
        net.predict(videos[:2], "1x3", batch_size=9)
        assert not [record for record in caplog.records if "ompil" in record.getMessage()]


def test_folders_and_files_give_the_numbers_of_their_run(folder, net):
    videos = [folder / "clips" / f"{number}.mp4" for number in range(3)]
    expected = net.predict(videos, "1x3").logits
    weights = aia_jax.load(folder / "net")
    file = aia_jax.load(folder / "net.safetensors", temporal="tsn", **CLIPS)
    write_hub_folder(folder / "page", net.run)
    same = [folder / "net" / "weights.safetensors", folder / "page"]
    for other in (weights, file, *map(aia_jax.load, same)):
        assert other.class_names == tuple(NAMES) and not other.run.notes
        assert other.model == net.model
        np.testing.assert_array_equal(other.predict(videos, "1x3").logits, expected)
    (folder / "hub").mkdir()
    (folder / "hub" / "config.json").write_text('{"model_type": "resnet"}')
    shutil.copy(folder / "net.safetensors", folder / "hub" / "model.safetensors")
    assert aia_jax.load(folder / "hub", temporal="tsn", **CLIPS).model == net.model
    assert aia_jax.load(folder / "run", num_frames=2).run.clip_shape[0] == 2
    assert aia_jax.load(folder / "net", dtype="bfloat16", views="2x3").views == Views(2, 3)


def test_frames_in_memory_are_those_of_a_folder(folder, net, tmp_path):
    frames = np.stack(numbered_frames(9, 30, 42, (255, 120, 60)))
    for number, pixels in enumerate(frames):
        cv2.imwrite(str(tmp_path / f"{number:03}.png"), pixels[..., ::-1])
    expected = net.predict([tmp_path] * 3, "2x3")
    found = net.predict([frames, jax.numpy.asarray(frames), frames[:]], "2x3")
    np.testing.assert_array_equal(found.logits, expected.logits)
    assert found.ids == ("video 0", "video 1", "video 2")
    np.testing.assert_array_equal(net.predict(np.stack([frames] * 3), "2x3").logits, found.logits)
    one = net.predict(frames, "2x3", batch_size=9)
    assert one.ids == ("video 0",) and (one.logits == found.logits[:1]).all()
    assert not len(net.predict([])) and repr(net.predict([])) == "no videos"
    assert net.features([]).shape == (0, 0)


def test_features_are_those_of_the_evaluation(folder, net):
    videos = [folder / "clips" / f"{number}.mp4" for number in range(3)]
    run = aia_jax.load(folder / "run").run
    expected = features_of_files(run, videos, Views(1, 3)).vectors
    found = net.features(videos, "1x3")
    np.testing.assert_array_equal(found, expected)
    frames = net.features(videos, "1x3", per_frame=True)
    assert frames.shape == (3, 3, 4, found.shape[1]) and frames.dtype == np.float32
    np.testing.assert_allclose(frames.mean((1, 2)), found, rtol=1e-5)
    assert np.ptp(frames, axis=2).max() > 0.01


def test_a_video_that_cannot_be_read_keeps_its_row(folder, net, tmp_path):
    (tmp_path / "bad.mp4").write_text("no video")
    good = folder / "clips" / "0.mp4"
    with pytest.warns(UserWarning, match=r"1 of 2 videos not read: .*bad\.mp4: "):
        found = net.predict([tmp_path / "bad.mp4", good], batch_size=9)
    assert found.labels[0] == -1 and found.top()[0] == [] and np.isnan(found.logits[0]).all()
    assert found.labels[1] >= 0 and len(found[1].top(9)[0]) == 3
    assert "not read" in repr(found[0]) and "not read" not in repr(found[1])
    with pytest.warns(UserWarning, match="not read"):
        features = net.features([good, tmp_path / "bad.mp4"], batch_size=9)
    assert np.isnan(features[1]).all() and np.isfinite(features[0]).all()
    with pytest.raises(UserError, match="no video could be read"):
        net.predict([tmp_path / "bad.mp4"])


def test_what_a_notebook_shows(folder, net):
    found = net.predict(str(folder / "clips" / "*.mp4"), "1x3")
    table, text = found._repr_html_(), repr(found)
    assert "<down>" in text and "<down>" not in table and "&lt;down&gt;" in table
    assert text.count("\n") == 2 and "0.mp4" in text and "%" in table
    assert [len(one) for one in found] == [1, 1, 1]
    many = dataclasses.replace(
        found,
        ids=tuple(map(str, range(30))),
        probabilities=found.probabilities[[0] * 30],
        logits=found.logits[[0] * 30],
    )
    assert "… and 10 more" in repr(many) and "… and 10 more" in many._repr_html_()
    assert "TSN with C" in repr(net) and "clips: 4 frames of 12x12 pixels" in repr(net)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nowhere", {}), "there is nothing; give a run's folder"),
        (("clips", {}), "a folder without any of them"),
        (("net", {"step": 3}), "step=3 belongs to a run's folder"),
        (("run", {"source": "mit-tsm"}), "belongs to a downloaded file"),
        (("run", {"step": 3}), "has the steps 12"),
        (("run", {"temporal": "tsm"}), "of no use to another network"),
        (("run", {"class_names": ["a", "b", "c"]}), "does not name the classes"),
        (("net", {"class_names": ["a", "b"]}), "has 2 names"),
        (("net", {"class_names": ["a", "b", "b"]}), "there twice"),
        (("net", {"class_names": ["a", "b", 3]}), "it is no text"),
        (("net", {"crop": 99}), "data.crop"),
        (("run", {"views": "3x3"}), "write CLIPSxCROPS"),
    ],
)
def test_what_cannot_be_opened_is_one_line(folder, arguments, said):
    path, given = arguments
    with pytest.raises(UserError, match=said) as error:
        aia_jax.load(folder / path, **given)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("videos", "said"),
    [
        (np.zeros((3, 8, 8, 3), np.float32), "video 0 is float32"),
        ([np.zeros((8, 8, 3), np.uint8)], r"video 0 is uint8 \[8, 8, 3\]"),
        (np.zeros((0, 8, 8, 3), np.uint8), "video 0 is uint8"),
        ([np.zeros((2, 8, 8, 3), np.uint8), 7], "video 1 is int64"),
        ("clips/*.nothing", "no file or folder matches"),
    ],
)
def test_what_is_no_video_is_refused(net, videos, said):
    with pytest.raises(UserError, match=said):
        net.predict(videos)
    with pytest.raises(UserError, match="batch_size=0"):
        net.features(np.zeros((2, 8, 8, 3), np.uint8), batch_size=0)
