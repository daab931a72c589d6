"""predict.py: it agrees with eval.py, takes every kind of source, and skips unreadable ones."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import av
import jax
import numpy as np
import pytest
import simplejpeg

import predict as command
from aia_jax.checkpoints.trained_run import open_run
from aia_jax.data.pipeline import eval_batches
from aia_jax.data.views import Views
from aia_jax.errors import UserError, exit_status
from aia_jax.evaluation import overlay
from aia_jax.evaluation.predict import Prediction, find_frame_format, find_sources, read_views
from aia_jax.models.preprocess import preprocessing
from aia_jax.prepare import command as prepare
from aia_jax.shards.reader import open_split
from aia_jax.video.decode import decode, estimated_count, pictures
from aia_jax.video.frame_size import FrameSize
from tests.helpers.paths import ROOT
from tests.helpers.raw_videos import (
    numbered_frames,
    remux,
    write_empty_video,
    write_frames,
    write_video,
)
from tests.helpers.tiny_checkpoint import make_run
from tests.helpers.tiny_run import RECIPE

CLASSES = {"Brightens": (255, 255, 255), "Reddens": (255, 60, 60), "Turns blue": (60, 60, 255)}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with raw videos, the data set prepared from them, and a run on that data set."""
    folder = tmp_path_factory.mktemp("trained")
    raw = folder / "raw"
    for name, colour in CLASSES.items():
        for number in range(3):
            frames = numbered_frames(7 + 3 * number, 30, 42, colour)
            write_video(raw / "train" / name / f"{number}.mp4", frames)
            write_video(raw / "val" / name / f"{number}.mp4", frames[1:])
    arguments = [
        "folders",
        "--raw",
        raw,
        "--out",
        folder / "data",
        "--size",
        "18x24",
        "--workers",
        "1",
        "--name",
        "tiny",
    ]
    assert prepare.main(list(map(str, arguments))) == 0
    recipe = folder / "tiny.py"
    recipe.write_text(RECIPE.format(data=str(folder / "data")))
    make_run(folder / "run", recipe, ["data.resize=18,24"], list(CLASSES), {"top1": 0.5})
    return folder


def predict_here(capsys, *arguments) -> tuple[int, str, str]:
    """The command in this process: its exit status, and what it printed on both streams."""
    status = exit_status(lambda: command.main(list(map(str, arguments))))
    return status, *capsys.readouterr()


def predict_in_a_process(*arguments) -> subprocess.CompletedProcess:
    command = [sys.executable, ROOT / "predict.py", *arguments]
    return subprocess.run(
        command,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=300,
    )


def objects(printed: str) -> list[dict]:
    return [json.loads(line) for line in printed.splitlines()]


@pytest.mark.parametrize("protocol", ["center", "dense10"])
def test_a_video_gets_the_probabilities_that_eval_gives_its_record(trained, capsys, protocol):
    views = {"center": "1x1", "dense10": "10x1"}[protocol]
    arguments = ["--workdir", trained / "run", "--json", "--views", views]
    status, out, err = predict_here(capsys, trained / "raw" / "val" / "*" / "*.mp4", *arguments)
    assert status == 0, err
    found = {"/".join(Path(one["video"]).parts[-2:]): one for one in objects(out)}

    opened = open_run(trained / "run")
    reader = open_split(trained / "data", "validation")
    batches = eval_batches(reader, 9, 4, 12, protocol, resize=(18, 24), prefetch=0)
    batch = next(iter(batches))
    clips = batch["clips"].reshape(-1, 4, 12, 12, 3)
    logits = (
        opened.model.apply(opened.variables, preprocessing(opened.model)(clips))
        .reshape(9, -1, 3)
        .mean(1)
    )
    expected = np.asarray(jax.nn.softmax(logits))
    assert np.ptp(expected, axis=0).max() > 0.01  # videos differ, or anything would agree
    assert len(found) == len(reader) == 9
    for record in range(9):
        one = found[reader.index.video_id(record)]
        by_label = {shown["label"]: shown["probability"] for shown in one["classes"]}
        np.testing.assert_allclose(
            [by_label[label] for label in range(3)], expected[record], atol=1e-5
        )
        assert one["frames"] == reader.index.num_frames[record] and one["views"] == views
        assert [shown["name"] for shown in one["classes"]] == [
            list(CLASSES)[label] for label in np.argsort(-expected[record])
        ]


def test_one_bad_file_among_many_does_not_stop_the_rest(trained, tmp_path):
    good = trained / "raw" / "val" / "Reddens" / "1.mp4"
    whole = good.read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "notes.mp4").write_text("no video")
    (tmp_path / "zero.mp4").write_bytes(b"")
    write_empty_video(tmp_path / "frameless.mp4")
    (tmp_path / "folder").mkdir()
    folder = write_frames(
        tmp_path / "frames", numbered_frames(9, 30, 42, (255, 60, 60)), "img_%03d.jpg", first=0
    )
    bad = [
        tmp_path / name
        for name in ("cut.mp4", "notes.mp4", "zero.mp4", "frameless.mp4", "folder", "missing.mp4")
    ]

    done = predict_in_a_process(
        *bad[:3],
        good,
        *bad[3:],
        folder,
        "--workdir",
        trained / "run",
        "--json",
        "--top",
        "2",
        "--views",
        "2x3",
        "--timing",
    )
    assert done.returncode == 1
    rows = objects(done.stdout)
    assert [row["video"] for row in rows] == [
        str(path) for path in (*bad[:3], good, *bad[3:], folder)
    ]
    assert ["classes" in row for row in rows] == [False] * 3 + [True] + [False] * 3 + [True]
    assert (
        all(len(row["classes"]) == 2 for row in rows if "classes" in row)
        and rows[-1]["frames"] == 9
    )
    for row in rows:
        if "error" in row:
            assert f"error: {row['video']}: {row['error']}" in done.stderr
    assert "6 of 8 videos could not be read" in done.stderr and "Traceback" not in done.stderr
    assert "the file is empty" in rows[2]["error"] and "reading" in done.stderr


def test_when_no_video_can_be_read_the_status_is_2(trained, tmp_path, capsys):
    (tmp_path / "notes.mp4").write_text("no video")
    bad = [tmp_path / "notes.mp4", tmp_path / "missing.mp4"]
    status, out, err = predict_here(capsys, *bad, "--workdir", trained / "run")
    assert status == 2 and out == "" and "no video could be read" in err and err.count("\n") == 1
    assert all(path.name in err for path in bad)


def test_the_table_and_the_overlay(trained, tmp_path, capsys):
    video = trained / "raw" / "val" / "Turns blue" / "2.mp4"
    arguments = ["--workdir", trained / "run", "--top", "9", "--overlay", tmp_path / "out.mp4"]
    status, out, err = predict_here(capsys, video, *arguments)
    assert status == 0, err
    assert all(name in out for name in CLASSES) and out.count("%") == 3
    with av.open(str(tmp_path / "out.mp4")) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert float(container.streams.video[0].average_rate) == 12
    assert len(frames) == 12 and frames[0].shape[0] % 2 == frames[0].shape[1] % 2 == 0
    assert list(tmp_path.iterdir()) == [tmp_path / "out.mp4"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--views", "3x1"], "--views 3x1"),
        (["--top", "0"], "--top 0"),
        (["--step", "7"], "checkpoints has the steps "),
        (["--overlay", "out.avi"], "must end with .mp4 or .gif"),
        (["--overlay", "nowhere/out.mp4"], "there is no folder nowhere"),
        (["--size", "large"], "--size large"),
        (["other.mp4", "--overlay", "out.mp4"], "takes one video, found 2"),
        (["none-*.mp4"], "no file or folder matches none-*.mp4"),
    ],
)
def test_wrong_input_is_one_line_and_status_2(trained, capsys, arguments, said):
    video = trained / "raw" / "val" / "Reddens" / "1.mp4"
    status, _, err = predict_here(capsys, video, *arguments, "--workdir", trained / "run")
    assert status == 2 and said in err and err.count("\n") == 1


def test_without_a_run_there_is_nothing_to_predict_with(tmp_path, capsys):
    status, _, err = predict_here(capsys, "a.mp4", "--workdir", tmp_path)
    assert status == 2 and "train first" in err


def test_the_frame_size_comes_from_the_manifest_then_the_recipe(trained, tmp_path):
    opened = open_run(trained / "run")
    assert (
        find_frame_format(opened).size == FrameSize(height=18, width=24)
        and find_frame_format(opened).quality == 90
    )
    assert find_frame_format(opened, "short20").size == FrameSize(short_side=20)
    with opened.config.unlocked():
        opened.config.data.dir = str(tmp_path)
    assert find_frame_format(opened).size == FrameSize(height=18, width=24)
    with opened.config.unlocked():
        opened.config.data.resize = ()
    with pytest.raises(UserError, match="--size"):
        find_frame_format(opened)


def test_patterns_are_expanded_once_and_in_order(tmp_path):
    for name in ("b.mp4", "a.mp4", "odd[1].mp4"):
        (tmp_path / name).touch()
    named = [str(tmp_path / "b.mp4"), str(tmp_path / "*.mp4"), str(tmp_path / "odd[1].mp4")]
    assert [path.name for path in find_sources(named)] == ["b.mp4", "a.mp4", "odd[1].mp4"]


def test_wanted_frames_are_those_of_the_whole_video(tmp_path):
    frames = numbered_frames(9, 24, 32)
    sources = [
        write_video(tmp_path / "a.webm", frames),
        write_video(tmp_path / "b.mp4", frames),
        write_frames(tmp_path / "c", frames),
    ]
    for source in sources:
        whole = decode(source, FrameSize(16, 20), 90)
        some = decode(source, FrameSize(16, 20), 90, {2, 5}, threads=0)
        assert (
            some.frames == [whole.frames[2], whole.frames[5]]
            and some.count == whole.count == estimated_count(source) == 9
        )
        assert len(list(pictures(source))) == 9


def test_a_title_that_is_no_utf8_is_no_reason_to_refuse_a_video(tmp_path):
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        container.metadata["title"] = "umlauts"
        track = container.add_stream("mpeg4", rate=12)
        track.height = track.width = 32
        for pixels in numbered_frames(3, 32, 32):
            container.mux(track.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(track.encode())
    content = (tmp_path / "a.mp4").read_bytes()
    assert content.count(b"umlauts") == 1
    (tmp_path / "a.mp4").write_bytes(content.replace(b"umlauts", b"\xfcmlaut\xff"))
    assert decode(tmp_path / "a.mp4", FrameSize(16, 16), 90).count == 3


def test_frames_that_a_file_hides_are_not_counted(trained, tmp_path):
    video = remux(
        write_video(tmp_path / "a.mp4", numbered_frames(12, 30, 42)),
        tmp_path / "b.mp4",
        shift_seconds=0.25,
    )
    opened = open_run(trained / "run")
    whole = decode(video, FrameSize(18, 24), 90)
    assert whole.count < estimated_count(video)  # else this is no test of it
    found = read_views(video, opened, Views(2, 3), find_frame_format(opened))
    assert found.count == whole.count and found.seen[-1] < whole.count
    shown = np.stack([simplejpeg.decode_jpeg(whole.frames[frame]) for frame in found.seen])
    assert found.views.shape == (6, 4, 12, 12, 3)
    # The second clip begins with the first frame.
    np.testing.assert_array_equal(found.views[5][0], shown[0][3:15, 6:18])


@pytest.mark.parametrize(("height", "width"), [(24, 32), (200, 90), (900, 1700)])
@pytest.mark.parametrize("name", ["out.mp4", "out.gif"])
def test_an_overlay_shows_the_video_of_any_shape(tmp_path, height, width, name):
    source = write_video(tmp_path / "in.mp4", numbered_frames(4, height, width), fps=30)
    prediction = Prediction(source, np.zeros(3, np.float32), 4, (0, 2), 30.0, 0.0)
    classes = [("an $odd_ näme", 0.75), ("so long that it is cut " * 9, 0.25), ("nothing", 0.0)]
    overlay.write_overlay(tmp_path / name, prediction, classes)
    with av.open(str(tmp_path / name)) as container:
        shown = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    # 30 frames a second are too many for a GIF.
    assert len(shown) == (2 if name.endswith("gif") else 4)
    middle = shown[-1].shape[1] // 2
    # The picture brightens; the panel stays.
    assert shown[-1][10, middle].mean() > shown[0][10, middle].mean() + 20
    assert np.abs(shown[0][-40:].astype(int) - shown[-1][-40:]).mean() < 3


def test_the_top_bar_is_as_long_as_its_probability():
    panel = overlay.draw_panel(640, "a.mp4", "8 of 9 frames seen", [("up", 0.75), ("down", 0.25)])
    bar = (np.abs(panel.astype(int) - (255, 176, 59)).sum(-1) < 30).any(0)
    np.testing.assert_allclose(np.flatnonzero(bar)[[0, -1]], [20, 20 + 0.75 * 600], atol=2)


def test_a_run_whose_checkpoint_is_damaged_says_so(trained, tmp_path, capsys):
    shutil.copytree(trained / "run", tmp_path / "run")
    step = open_run(trained / "run").step
    victim = max(
        (tmp_path / "run" / "checkpoints" / str(step)).rglob("*"),
        key=lambda path: path.stat().st_size if path.is_file() else 0,
    )
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    status, _, err = predict_here(
        capsys, trained / "raw" / "val" / "Reddens" / "1.mp4", "--workdir", tmp_path / "run"
    )
    assert status == 2 and "damaged" in err
