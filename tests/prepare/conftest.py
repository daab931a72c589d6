"""A raw data set, and the data set that one undisturbed run of the command makes of it."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.prepare_command import start_command
from tests.helpers.raw_videos import (
    numbered_frames,
    write_empty_video,
    write_frames,
    write_video,
)

HANDLERS = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}


@pytest.fixture(autouse=True)
def signal_handlers() -> Iterator[None]:
    """Restores the handlers of SIGTERM and SIGINT, which the command replaces in this process."""
    yield
    for number, handler in HANDLERS.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes, videos in several containers, two folders of frames.

    Three videos cannot be read.
    """
    raw = tmp_path_factory.mktemp("raw") / "tiny-set"
    for number in range(8):
        frames = numbered_frames(10 + number, 30 + 8 * number, 54, colour=(255, 30 * number, 0))
        write_video(raw / "train" / "moving left" / f"größe {number}.mp4", frames, fps=10)
        write_video(raw / "train" / "moving right" / f"{number}.webm", frames[::-1], fps=25)
        write_video(raw / "val" / "moving left" / f"{number}.avi", frames)
    folder = write_frames(
        raw / "train" / "standing" / "as frames", numbered_frames(9, 40, 40), "img_%05d.jpg"
    )
    (folder / "img_00004.jpg").unlink()
    write_frames(raw / "val" / "standing" / "as frames", numbered_frames(5, 40, 40), first=0)
    (raw / "train" / "standing" / "broken.mp4").write_bytes(bytes(range(256)) * 8)
    (raw / "train" / "standing" / "nothing.webm").touch()
    write_empty_video(raw / "val" / "standing" / "no frame.avi")
    return raw


@pytest.fixture(scope="session")
def done(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data set as one undisturbed run writes it. Tests change only copies of it."""
    out = tmp_path_factory.mktemp("done") / "out"
    assert start_command(raw, out).wait() == 1, "finished, but some videos could not be read"
    return out
