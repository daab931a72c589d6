"""predict.py on long videos: windows over time, as table, JSON, CSV and overlay."""

import csv
import io
import json

import av
import numpy as np
import pytest

import predict as command
from aia_jax.checkpoints.trained_run import open_run
from aia_jax.data.views import Views
from aia_jax.errors import exit_status
from aia_jax.prediction import window_reader
from aia_jax.prediction.frame_format import find_frame_format
from aia_jax.prediction.sliding import Sliding
from aia_jax.prediction.window_overlay import segments
from aia_jax.prediction.window_reader import read_windows
from aia_jax.prediction.windows import WindowPrediction
from aia_jax.video.decode import decode
from aia_jax.video.timed_frames import read_clock, timed_frames
from tests.helpers.raw_videos import numbered_frames, remux, write_frames, write_video
from tests.helpers.tiny_checkpoint import make_run
from tests.helpers.tiny_run import RECIPE, session_compile_cache

NAMES = ["Brightens", "Reddens", "Turns blue"]
FRAMES = [
    frame
    for colour in ((255, 255, 255), (255, 60, 60), (60, 60, 255))
    for frame in numbered_frames(12, 30, 42, colour)
]  # 3 seconds at 12 frames a second


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a run, a video of 3 seconds, and the same as a folder of pictures."""
    folder = tmp_path_factory.mktemp("trained")
    recipe = folder / "tiny.py"
    recipe.write_text(RECIPE.format(data="nowhere"))
    make_run(folder / "run", recipe, ["data.resize=18,24"], NAMES, {"top1": 0.5})
    write_video(folder / "a.mp4", FRAMES)
    write_frames(folder / "frames", FRAMES)
    return folder


def predict_here(capsys, folder, *arguments) -> tuple[int, str, str]:
    line = [str(part) for part in (*arguments, "--workdir", folder / "run", "--size", "18x24")]
    with session_compile_cache():
        status = exit_status(lambda: command.main(line))
    return status, *capsys.readouterr()


def rows(printed: str) -> list[dict]:
    return [json.loads(line) for line in printed.splitlines()]


def by_label(row: dict) -> list[float]:
    return [one["probability"] for one in sorted(row["classes"], key=lambda one: one["label"])]


def test_a_window_gets_the_probabilities_of_its_frames_alone(trained, tmp_path, capsys):
    status, out, err = predict_here(
        capsys, trained, trained / "frames", "--fps", 12, "--window", 1, "--stride", 0.5, "--json"
    )
    assert status == 0, err
    found = rows(out)
    assert [(row["start"], row["end"]) for row in found] == [
        (0, 1), (0.5, 1.5), (1, 2), (1.5, 2.5), (2, 3),
    ]  # fmt: skip
    alone = write_frames(tmp_path / "alone", FRAMES[18:30])
    status, out, err = predict_here(capsys, trained, alone, trained / "frames", "--json")
    assert status == 0, err
    part, whole = rows(out)
    np.testing.assert_allclose(by_label(found[3]), by_label(part), atol=1e-6)
    assert found[3]["seen"] == [18 + frame for frame in part["seen"]]
    assert np.abs(np.subtract(by_label(found[0]), by_label(found[4]))).max() > 1e-3
    # A window that is as long as the video shows what the video shows; a longer one too.
    for length in (3, 60):
        _, out, _ = predict_here(
            capsys, trained, trained / "frames", "--fps", 12, "--window", length, "--json"
        )
        (row,) = rows(out)
        np.testing.assert_allclose(by_label(row), by_label(whole), atol=1e-6)
        assert row["seen"] == whole["seen"] and row["end"] == 3


def test_each_frame_is_decoded_once_and_windows_come_as_they_are_read(trained, monkeypatch):
    run, read = open_run(trained / "run"), []

    def counted(*arguments):
        for frame in timed_frames(*arguments):
            read.append(frame.time)
            yield frame

    monkeypatch.setattr(window_reader, "timed_frames", counted)
    source = trained / "a.mp4"
    windows = read_windows(
        source, run, Views(2, 3), Sliding(1.0, 0.25), find_frame_format(run), read_clock(source)
    )
    first = next(windows)
    assert len(read) <= 14 and first.views.shape == (6, 4, 12, 12, 3)
    others = list(windows)
    assert len(others) == 8 and len(read) == 36
    assert others[-1].end == pytest.approx(3) and others[-1].seen[-1] == 34


def test_a_file_that_hides_frames_ends_where_it_is_seen_to_end(trained, tmp_path):
    run = open_run(trained / "run")
    source = remux(trained / "a.mp4", tmp_path / "b.mp4", shift_seconds=0.5)
    frame_format = find_frame_format(run)
    count = decode(source, frame_format.size, 90).count
    clock = read_clock(source)
    assert count < 36 and clock.end > count / 12 + 0.1  # else this is no test of it
    windows = list(read_windows(source, run, Views(), Sliding(1.0, 1.0), frame_format, clock))
    assert windows[-1].end == pytest.approx(count / 12) and windows[-1].seen[-1] < count
    assert [window.start for window in windows[:2]] == [0, 1]


def test_windows_before_the_damage_are_kept(trained, tmp_path, capsys):
    content = bytearray((trained / "a.mp4").read_bytes())
    with av.open(str(trained / "a.mp4")) as container:
        packets = [packet.pos for packet in container.demux(video=0) if packet.size]
    content[packets[30] : packets[30] + 40] = b"\xff" * 40
    (tmp_path / "bad.mp4").write_bytes(content)
    status, out, err = predict_here(
        capsys, trained, tmp_path / "bad.mp4", trained / "a.mp4", "--window", 0.5, "--json"
    )
    found = rows(out)
    assert status == 1 and "Traceback" not in err
    assert [row.get("end") for row in found[:4]] == [0.5, 1.0, 1.5, 2.0]
    assert sum("classes" in row for row in found) in (10, 11) and "error" in found[-1]
    assert "bad.mp4" in err and "1 of 2 videos" in err


def test_table_csv_and_overlay(trained, tmp_path, capsys):
    arguments = trained / "a.mp4", "--window", 1
    target = tmp_path / "out.mp4"
    status, out, err = predict_here(capsys, trained, *arguments, "--top", 2, "--overlay", target)
    assert status == 0, err
    assert out.count("%") == 6 and "0.00" in out and "3.00" in out
    with av.open(str(target)) as container:
        shown = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(shown) == 36 and shown[0].shape[0] % 2 == 0
    # The cursor, which is white, is where the frame is.
    band = shown[18][360:402]
    assert band[20, 320].min() > 200 and band[20, 100].min() < 200

    status, out, err = predict_here(capsys, trained, *arguments, "--csv", "--timing")
    assert status == 0 and "3 windows" in err
    table = list(csv.DictReader(io.StringIO(out)))
    assert len(table) == 9 and table[0]["video"] == str(trained / "a.mp4")
    assert [row["rank"] for row in table[:4]] == ["1", "2", "3", "1"]
    assert sum(float(row["probability"]) for row in table[3:6]) == pytest.approx(1, abs=1e-4)


def test_the_window_whose_middle_is_nearest_counts():
    def window(start, end):
        return WindowPrediction(float(start), float(end), ((0, 1.0),), (0,))

    overlapping = [window(0, 2), window(1, 3), window(1.5, 3.5)]
    assert segments(overlapping, 3.5) == [(0, 1.5, 0), (1.5, 2.25, 1), (2.25, 3.5, 2)]
    apart = [window(0, 1), window(4, 5)]
    assert segments(apart, 6.0) == [(0, 1, 0), (4, 5, 1)]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--window", "0"], "--window 0.0: expected a number of seconds above 0"),
        (["--window", "1", "--stride", "-1"], "--stride -1.0"),
        (["--window", "1", "--stride", "0.001"], "has a new frame every 0.0833 s"),
        (["--stride", "1"], "--stride belongs to --window SECONDS"),
        (["--fps", "3"], "--fps belongs to --window SECONDS"),
        (["--csv"], "--csv belongs to --window SECONDS"),
        (["--window", "1", "--csv", "--json"], "two forms of one output"),
        (["--window", "1", "--fps", "nan"], "--fps nan"),
        (["--weights", "net"], "either the folder of a trained run"),
        (["--classes", "names.txt"], "--classes names the classes of --weights"),
        (["--config.data.crop=900"], "data.crop"),
        (["--config.model.attention=none"], "of no use to another network"),
    ],
)
def test_wrong_input_is_one_line_and_status_2(trained, capsys, arguments, said):
    status, _, err = predict_here(capsys, trained, trained / "a.mp4", *arguments)
    assert status == 2 and said in err
    assert len([line for line in err.splitlines() if not line.startswith("note:")]) == 1


def test_pictures_need_a_rate(trained, capsys):
    status, out, err = predict_here(capsys, trained, trained / "frames", "--window", 1)
    assert status == 2 and out == "" and "say it with --fps" in err
