"""predict.py: it agrees with eval.py, takes every kind of source, and skips unreadable ones."""

import dataclasses
import io
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
from aia_jax.models.preprocess import preprocessing
from aia_jax.prediction import overlay
from aia_jax.prediction.fonts import DEFAULT_FONT
from aia_jax.prediction.frame_format import find_frame_format, frame_format_note
from aia_jax.prediction.predict import (
    find_sources,
    read_views,
)
from aia_jax.prepare import command as prepare
from aia_jax.shards.reader import open_split
from aia_jax.video.decode import decode, estimated_count
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
    arguments = ["folders", "--raw", raw, "--out", folder / "data", "--size", "18x24"]
    arguments += ["--workers", "1", "--name", "tiny"]
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


@pytest.mark.parametrize("sampling", ["reference", "uniform"])
def test_the_runs_own_sampling_chooses_the_frames_of_a_short_video(trained, sampling):
    """Ten clips of 7 frames: the reference's are all equal."""
    run = open_run(trained / "run")
    with run.config.unlocked():
        run.config.data.sampling = sampling
    source = trained / "raw" / "train" / "Reddens" / "0.mp4"
    video = read_views(source, run, Views(10, 1), find_frame_format(run))
    assert video.count == 7
    assert (video.views == video.views[0]).all() == (sampling == "reference")


@pytest.mark.parametrize("protocol", ["center", "dense10"])
def test_a_video_gets_the_probabilities_that_eval_gives_its_record(trained, capsys, protocol):
    views = {"center": "1x1", "dense10": "10x1"}[protocol]
    arguments = ["--workdir", trained / "run", "--json", "--views", views]
    status, out, err = predict_here(capsys, trained / "raw" / "val" / "*" / "*.mp4", *arguments)
    assert status == 0, err
    found = {"/".join(Path(one["video"]).parts[-2:]): one for one in objects(out)}

    opened = open_run(trained / "run")
    reader = open_split(trained / "data", "validation")
    batches = eval_batches(reader, 9, 4, 12, Views.parse(views), resize=(18, 24), prefetch=0)
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


def test_the_frame_size_is_the_run_s_wherever_its_data_are(trained, tmp_path):
    stored = FrameSize(height=18, width=24)
    opened = open_run(trained / "run")
    with opened.config.unlocked():
        opened.config.data.dir = str(tmp_path)
        opened.config.data.resize = (20, 30)
    assert find_frame_format(opened).size == stored and find_frame_format(opened).quality == 90
    opened.data["options"]["--frames"] = "flow_x_*.jpg"
    assert find_frame_format(opened).frame_names == "flow_x_*.jpg"
    assert not frame_format_note(opened) and not frame_format_note(opened, "18x24")
    assert find_frame_format(opened, "short20").size == FrameSize(short_side=20)
    assert "short20, the run's were to 18x24" in frame_format_note(opened, "short20")


def test_an_older_run_takes_the_frame_size_of_the_manifest_then_of_the_recipe(trained, tmp_path):
    older = dataclasses.replace(open_run(trained / "run"), data={})
    assert find_frame_format(older).size == FrameSize(height=18, width=24)
    assert "manifest.json says so" in frame_format_note(older)
    with older.config.unlocked():
        older.config.data.dir = str(tmp_path)
        older.config.data.resize = (20, 30)
    assert find_frame_format(older).size == FrameSize(height=20, width=30)
    assert "20x30 (its recipe's data.resize)" in frame_format_note(older)
    with older.config.unlocked():
        older.config.data.resize = ()
    with pytest.raises(UserError, match="--size"):
        find_frame_format(older)


def test_patterns_are_expanded_once_and_in_order(tmp_path):
    for name in ("b.mp4", "a.mp4", "odd[1].mp4"):
        (tmp_path / name).touch()
    named = [str(tmp_path / "b.mp4"), str(tmp_path / "*.mp4"), str(tmp_path / "odd[1].mp4")]
    assert [path.name for path in find_sources(named)] == ["b.mp4", "a.mp4", "odd[1].mp4"]
    for link in ("one", "two"):  # following both would never end
        (tmp_path / link).symlink_to(".")
    assert [path.name for path in find_sources([str(tmp_path / "**" / "?.mp4")])] == [
        "a.mp4",
        "b.mp4",
    ]


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
    # The second clip begins with the first frame; of three crops the last is the centre.
    np.testing.assert_array_equal(found.views[5][0], shown[0][2:14, 6:18])


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


def run_with_ascii(monkeypatch, *arguments) -> tuple[int, str, str]:
    """As `predict_here`, with an output and an error stream that take ASCII only."""
    streams = [
        io.TextIOWrapper(io.BytesIO(), "ascii", errors="strict", newline="\n") for _ in range(2)
    ]
    monkeypatch.setattr(sys, "stdout", streams[0])
    monkeypatch.setattr(sys, "stderr", streams[1])
    status = exit_status(lambda: command.main(list(map(str, arguments))))
    for stream in streams:
        stream.flush()
    return status, *(stream.buffer.getvalue().decode("ascii") for stream in streams)


def test_names_that_are_no_text_stop_nothing(trained, tmp_path, monkeypatch):
    names = ["größe 東京.mp4", os.fsdecode(b"not utf-8 \xff.mp4"), "two\nlines.mp4", "plain.mp4"]
    videos = [tmp_path / name for name in names]
    for video in videos:
        video.symlink_to(trained / "raw" / "val" / "Reddens" / "1.mp4")
    (tmp_path / "größe loop.mp4").symlink_to("größe loop.mp4")
    sources = [*map(str, videos), str(tmp_path / "größe loop.mp4"), str(tmp_path / ("é" * 400))]
    arguments = ["--workdir", trained / "run", "--top", "1", "--json"]
    status, out, err = run_with_ascii(monkeypatch, *sources, *arguments)
    assert status == 1, err
    assert [row["video"] for row in objects(out)] == sources
    assert ["classes" in row for row in objects(out)] == [True] * 4 + [False] * 2
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 3 and "2 of 6 videos could not be read" in lines[-1]
    assert "symbolic links" in lines[0] and "too long" in lines[1]


def test_the_table_and_the_overlay_of_a_name_that_is_no_text(trained, tmp_path, monkeypatch):
    video = tmp_path / os.fsdecode(b"not utf-8 \xff\n.mp4")
    video.symlink_to(trained / "raw" / "val" / "Reddens" / "1.mp4")
    target = tmp_path / os.fsdecode(b"\xff.gif")
    monkeypatch.setattr(overlay, "find_fonts", lambda text: ([DEFAULT_FONT], "x東"))
    arguments = ["--workdir", trained / "run", "--overlay", target]
    status, out, err = run_with_ascii(monkeypatch, video, *arguments)
    assert status == 0, err
    assert out.count("%") == 3 and "not utf-8" in out
    assert target.stat().st_size and "wrote " in err
    assert err.count("no font of this machine has x") == 1
