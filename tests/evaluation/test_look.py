"""The commands `gradcam` and `gates`: film strips of videos, and what cannot be drawn."""

import re

import cv2
import numpy as np
import pytest

from aia_jax.errors import exit_status
from aia_jax.evaluation.__main__ import main
from tests.helpers.raw_videos import numbered_frames, write_video
from tests.helpers.tiny_checkpoint import make_run
from tests.helpers.tiny_run import make_recipe, session_compile_cache

CLASSES = ("moving left", "moving right", "standing")
_WIDTH = 190 + 4 * 154 + 4  # pixels of a strip of four square frames


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with two runs, a video and a file that is none."""
    folder = tmp_path_factory.mktemp("made")
    recipe = make_recipe(folder)
    for name in ("none", "CinST"):
        make_run(folder / name, recipe, [f"model.attention={name}"], CLASSES, {})
    write_video(folder / "clip.mp4", numbered_frames(12, 48, 64))
    (folder / "broken.mp4").write_bytes(b"no video")
    return folder


def call(command, folder, runs, *arguments) -> int:
    line = [command, *(str(folder / run) for run in runs), "--out", str(folder / command)]
    with session_compile_cache():
        return exit_status(lambda: main([*line, *map(str, arguments)]))


def picture(path):
    return cv2.imread(str(path))


def test_a_strip_has_a_row_for_each_model_and_bad_videos_stop_nothing(made, capsys):
    videos = made / "broken.mp4", made / "clip.mp4"
    assert call("gradcam", made, ("none", "CinST"), "--videos", *videos) == 1
    strip = picture(made / "gradcam" / "clip_gradcam.png")
    assert strip.shape == (40 + 3 * 154 + 4, _WIDTH, 3)
    frames, first, second = (strip[40 + 154 * row :][:150, 194:].astype(int) for row in range(3))
    assert np.abs(first - frames).mean() > 5 and np.abs(second - first).mean() > 1
    out, err = capsys.readouterr()
    assert out == f"wrote {made / 'gradcam' / 'clip_gradcam.png'}\n"
    assert err.startswith(f"error: {made / 'broken.mp4'}: ") and err.count("\n") == 1


def test_gates_have_a_row_each(made):
    assert call("gates", made, ("CinST",), "--videos", made / "clip.mp4") == 0
    assert picture(made / "gates" / "clip_gates_stage1_block0.png").shape == (
        40 + 5 * 154 + 4,
        _WIDTH,
        3,
    )


@pytest.mark.parametrize(
    ("command", "run", "arguments", "line"),
    [
        ("gradcam", "none", ("--class", "flying"), "--class flying: .* standing"),
        ("gradcam", "none", ("--layer", "conv9"), "--layer conv9: .* stem/conv, "),
        ("gates", "none", (), "has no module with a gate"),
        ("gates", "CinST", ("--module", "stage7"), "--module stage7: .* stage1_block0/attention"),
    ],
)
def test_what_is_not_there_is_refused_with_what_is(made, capsys, command, run, arguments, line):
    assert call(command, made, (run,), "--videos", made / "clip.mp4", *arguments) == 2
    _, err = capsys.readouterr()
    assert err.count("\n") == 1
    assert re.search(line, err)
