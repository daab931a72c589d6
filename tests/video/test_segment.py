"""Segments of longer videos, folders and archives: exactly the frames that were asked for."""

import tarfile
from pathlib import Path

import av
import numpy as np
import pytest

from aia_jax.video.decode import UnreadableVideo, decode
from aia_jax.video.frame_size import FrameSize
from aia_jax.video.segment import Segment, decode_segment
from tests.helpers.raw_videos import decoded, numbered_frames, write_frames, write_video

SMALL = FrameSize(height=24, width=32)


def cut_seconds(source: Path, start: float, stop: float) -> list[bytes]:
    return decode_segment(source, Segment(start, stop, "seconds"), SMALL, 90).frames


def cut_numbers(source: Path, start: int, stop: int, unit: str = "numbers") -> list[bytes]:
    return decode_segment(source, Segment(start, stop, unit), SMALL, 90).frames


def reason(source: Path, segment: Segment) -> str:
    with pytest.raises(UnreadableVideo) as caught:
        decode_segment(source, segment, SMALL, 90)
    return str(caught.value)


def archive(path: Path, folder: Path, prefix: str = "") -> Path:
    with tarfile.open(path, "w") as tar:
        for picture in sorted(folder.iterdir(), reverse=True):  # archives need not be sorted
            tar.add(picture, prefix + picture.name)
    return path


@pytest.mark.parametrize("name", ["a.mp4", "b.webm", "c.avi", "d.mkv"])
def test_a_cut_is_exact_to_the_frame(tmp_path, name):
    """A cut may begin between key frames (12 apart), also where frames are reordered (B-frames)."""
    path = write_video(tmp_path / name, numbered_frames(60, 48, 64), fps=10, gop_size=12)
    whole = decode(path, SMALL, 90).frames
    assert cut_seconds(path, 0, 0.3) == whole[:3]
    assert cut_seconds(path, 2.0, 3.5) == whole[20:35]
    assert cut_seconds(path, 1.15, 1.25) == whole[12:13]
    assert cut_seconds(path, 5.5, 100) == whole[55:], "a stop beyond the end is no damage"
    assert cut_seconds(path, 0, 100) == whole
    assert "no frame in the seconds 7 to 8" in reason(path, Segment(7, 8, "seconds"))


def test_a_cut_of_a_variable_frame_rate_goes_by_time(tmp_path):
    path = tmp_path / "uneven.mkv"
    with av.open(str(path), "w") as container:
        track = container.add_stream("ffv1", rate=1000)
        track.height, track.width, track.pix_fmt = 48, 64, "yuv420p"
        for pixels, stamp in zip(
            numbered_frames(6, 48, 64), (0, 40, 500, 510, 1900, 2000), strict=True
        ):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts = stamp
            container.mux(track.encode(frame))
        container.mux(track.encode())
    assert cut_seconds(path, 0.5, 1.95) == decode(path, SMALL, 90).frames[2:5]


def test_frames_before_a_segment_are_not_read(tmp_path):
    path = write_video(tmp_path / "long.mp4", numbered_frames(120, 48, 64), fps=10, gop_size=12)
    wanted = decode(path, SMALL, 90).frames[100:110]
    content = bytearray(path.read_bytes())
    for position in range(200, len(content) // 3, 31):
        content[position] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(UnreadableVideo):
        decode(path, SMALL, 90)
    assert cut_seconds(path, 10, 11) == wanted


def test_a_segment_of_a_file_that_is_cut_off(tmp_path):
    path = write_video(tmp_path / "half.webm", numbered_frames(100, 48, 64), fps=10)
    wanted = decode(path, SMALL, 90).frames[:10]
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert cut_seconds(path, 0, 1) == wanted
    assert "the file's header promises 10.0 s" in reason(path, Segment(2, 9, "seconds"))


def test_portrait(tmp_path):
    path = write_video(tmp_path / "tall.mp4", numbered_frames(20, 80, 48), fps=10)
    video = decode_segment(path, Segment(0.5, 1, "seconds"), FrameSize.parse("short32"), 90)
    assert (len(video.frames), video.height, video.width, video.fps) == (5, 53, 32, 10)


@pytest.mark.parametrize("prefix", ["", "./", "P01/P01_01/"])
def test_numbers_of_a_folder_and_of_its_archive(tmp_path, prefix):
    folder = write_frames(tmp_path / "P01_01", numbered_frames(30, 24, 32), "frame_%010d.jpg")
    tar = archive(tmp_path / "P01_01.tar", folder, prefix)
    whole = decode(folder, SMALL, 90).frames
    for source in (folder, tar):
        assert cut_numbers(source, 8, 21) == whole[7:20]
        assert cut_numbers(source, 0, 5, "positions") == whole[:5]
        assert cut_numbers(source, 25, 99) == whole[24:]
        assert "no frame in the numbers 31 to 39; there are numbers 1 to 30" in reason(
            source, Segment(31, 40, "numbers")
        )
        assert "no times" in reason(source, Segment(0, 1, "seconds"))
    assert decode_segment(tar, None, SMALL, 90).frames == whole
    assert (
        decode_segment(tar, Segment(1, 3, "numbers"), SMALL, 90).form
        == "frame_%010d.jpg from 1 in .tar"
    )


def test_numbers_beyond_their_padding(tmp_path):
    folder = write_frames(tmp_path / "long", numbered_frames(6, 24, 32), "%03d.jpg", first=997)
    assert cut_numbers(folder, 999, 1002) == decode(folder, SMALL, 90).frames[2:5]
    (tmp_path / "long" / "1002.jpg").rename(tmp_path / "long" / "01002.jpg")
    folder = folder.rename(tmp_path / "uneven")
    assert (
        np.abs(
            decoded(cut_numbers(folder, 1001, 1003)) - decoded(decode(folder, SMALL, 90).frames[4:])
        ).max()
        == 0
    )


def test_missing_numbers_are_stated_at_the_ends_too(tmp_path):
    folder = write_frames(tmp_path / "clip", numbered_frames(12, 24, 32), first=3)
    for number in (5, 6, 9):
        (folder / f"{number:05d}.jpg").unlink()
    assert decode_segment(folder, Segment(1, 12, "numbers"), SMALL, 90).gaps == "1 to 2, 5 to 6, 9"
    assert decode_segment(folder, Segment(7, 9, "numbers"), SMALL, 90).gaps == ""
    assert (
        decode_segment(folder, Segment(0, 12, "positions"), SMALL, 90).gaps == "5 to 6, 9, 15 to 17"
    )
    assert decode_segment(folder, Segment(0, 9, "positions"), SMALL, 90).gaps == "5 to 6, 9"


def test_damaged_archives_say_so(tmp_path):
    folder = write_frames(tmp_path / "clip", numbered_frames(12, 24, 32))
    tar = archive(tmp_path / "clip.tar", folder)
    content = tar.read_bytes()
    for name, cut, segment in (
        ("cut", len(content) // 2, Segment(1, 13, "numbers")),
        ("head", 300, Segment(1, 13, "numbers")),
    ):
        path = tmp_path / f"{name}.tar"
        path.write_bytes(content[:cut])
        assert reason(path, segment)
    (tmp_path / "empty.tar").touch()
    assert reason(tmp_path / "empty.tar", Segment(1, 2, "numbers"))
    assert reason(tmp_path / "missing.tar", Segment(1, 2, "numbers")) == "No such file or directory"
    video = write_video(tmp_path / "v.mp4", numbered_frames(3, 24, 32))
    assert "in seconds" in reason(video, Segment(1, 2, "numbers"))


def test_the_text_of_a_segment_stays():
    """Manifests and bad.txt of older versions have it."""
    assert str(Segment(0.5, 1.0, "seconds")) == "seconds 0.5 to 1"
    assert str(Segment(2, 5, "numbers")) == "numbers 2 to 4"
    assert str(Segment(0, 10, "positions")) == "places 0 to 9"
