"""Sources that are no videos, or claim too much: one line each, and no memory for their claims."""

import errno
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import simplejpeg

from aia_jax.video.decode import UnreadableVideo, decode, estimated_count
from aia_jax.video.faults import MAX_PIXELS, OutputError, named_faults
from aia_jax.video.frame_size import FrameSize
from aia_jax.video.frame_spool import FrameSpool
from aia_jax.video.segment import Segment, decode_segment
from tests.helpers.raw_videos import numbered_frames, write_frames, write_video

SMALL = FrameSize(height=24, width=32)


def reason(source: Path, size: FrameSize = SMALL) -> str:
    with pytest.raises(UnreadableVideo) as caught:
        decode(source, size, 90)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def claiming_jpeg(height: int, width: int) -> bytes:
    content = bytearray(simplejpeg.encode_jpeg(np.zeros((16, 16, 3), np.uint8)))
    at = content.index(b"\xff\xc0")  # its header: length, bits, height, width
    content[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(content)


def claiming_png(height: int, width: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + header + pixels + chunk(b"IEND", b"")


def test_a_picture_that_claims_too_many_pixels_is_not_decoded(tmp_path):
    for name, content in (
        ("1.jpg", claiming_jpeg(50_000, 50_000)),
        ("1.png", claiming_png(50_000, 60_000)),
    ):
        folder = tmp_path / name[2:]
        folder.mkdir()
        (folder / name).write_bytes(content)
        assert f"frame {name} claims" in reason(folder)
        assert f"{MAX_PIXELS:,}" in reason(folder)


def test_a_video_that_claims_too_many_pixels_is_not_decoded(tmp_path):
    path = write_video(
        tmp_path / "a.avi", numbered_frames(6, 32, 32), codec="mjpeg", pix_fmt="yuvj420p"
    )
    content = bytearray(path.read_bytes())
    at = content.rindex(b"\xff\xc0")  # of the last frame: the file's header says 32 × 32
    content[at + 5 : at + 9] = struct.pack(">HH", 30_000, 30_000)
    path.write_bytes(content)
    assert "damaged near frame 5 (Picture size 30000x30000 is invalid)" in reason(path)


def test_a_frame_that_would_be_stored_too_large_is_refused(tmp_path):
    folder = write_frames(tmp_path / "strip", [np.zeros((2, 3000, 3), np.uint8)])
    assert "would be stored as 384000 × 256" in reason(folder, FrameSize.parse("short256"))
    assert decode(folder, SMALL, 90).count == 1


def test_what_is_no_file_is_named_and_never_waited_for(tmp_path):
    (tmp_path / "loop.mp4").symlink_to("loop.mp4")
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "folder.mp4").mkdir()
    assert "symbolic links" in reason(tmp_path / "loop.mp4")
    assert reason(tmp_path / "pipe.mp4") == "a pipe, where a file is expected"
    assert "it is empty" in reason(tmp_path / "folder.mp4")
    assert reason(Path("/dev/zero")) == "a device, where a file is expected"
    assert "too long" in reason(tmp_path / ("x" * 300))
    assert "too long" in reason(tmp_path / ("x/" * 3000))
    for name in ("loop.mp4", "pipe.mp4", "x" * 300):
        with pytest.raises(UnreadableVideo):
            estimated_count(tmp_path / name)
        with pytest.raises(UnreadableVideo):
            decode_segment(tmp_path / name, Segment(0, 1, "seconds"), SMALL, 90)
    os.mkfifo(tmp_path / "pipe.tar")
    with pytest.raises(UnreadableVideo, match="a pipe"):
        decode_segment(tmp_path / "pipe.tar", None, SMALL, 90)


def test_a_picture_that_is_no_file_is_named(tmp_path):
    folder = write_frames(tmp_path / "clip", numbered_frames(3, 24, 32))
    (folder / "00002.jpg").unlink()
    os.mkfifo(folder / "00002.jpg")
    assert reason(folder) == "frame 00002.jpg is a pipe, where a file is expected"
    (folder / "00002.jpg").unlink()
    (folder / "00002.jpg").symlink_to("00002.jpg")
    assert "frame 00002.jpg: " in reason(folder)
    (folder / "00002.jpg").unlink()
    (folder / "00002.jpg").mkdir()
    assert "frame 00002.jpg is a folder" in reason(folder)


@pytest.mark.parametrize("error", [MemoryError(), ValueError("two\nlines"), OverflowError("long")])
def test_whatever_a_source_causes_is_one_line(error):
    with pytest.raises(UnreadableVideo) as caught, named_faults():
        raise error
    assert "\n" not in str(caught.value)


def test_a_full_disk_is_no_fault_of_the_video(tmp_path, monkeypatch):
    def write(data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with FrameSpool(tmp_path) as spool:
        monkeypatch.setattr(spool._file, "write", write)
        with pytest.raises(OutputError), named_faults():
            spool.append(b"x")
