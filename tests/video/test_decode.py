"""Decoding videos and folders of frames: every frame, its size, its colours; broken sources."""

import os
from pathlib import Path

import av
import numpy as np
import pytest
import simplejpeg
from PIL import Image

from aia_jax.video.decode import UnreadableVideo, cores, decode
from aia_jax.video.frame_size import FrameSize
from tests.helpers.raw_videos import (
    decoded,
    numbered_frames,
    remux,
    write_empty_video,
    write_frames,
    write_video,
)

SMALL = FrameSize(height=24, width=32)


def reason(source: Path) -> str:
    with pytest.raises(UnreadableVideo) as caught:
        decode(source, SMALL, 90)
    return str(caught.value)


@pytest.mark.parametrize(
    "name", ["a.mp4", "b c.webm", "d.avi", "größe 東京.mkv", "50%d.mov", "con:cat.mp4"]
)
@pytest.mark.parametrize(("height", "width"), [(48, 64), (98, 54)])
def test_every_frame_in_order(tmp_path, name, height, width):
    frames = numbered_frames(21, height, width)
    video = decode(write_video(tmp_path / name, frames, fps=10), SMALL, 95)
    assert (len(video.frames), video.fps, video.height, video.width) == (21, 10, 24, 32)
    levels = decoded(video.frames).mean((1, 2, 3))
    np.testing.assert_allclose(levels, [pixels.mean() for pixels in frames], atol=3)
    assert (np.diff(levels) > 0).all()


def test_odd_sides(tmp_path):
    frames = numbered_frames(5, 45, 67)
    video = decode(
        write_video(tmp_path / "odd.mkv", frames, codec="ffv1"), FrameSize(height=45, width=67), 100
    )
    assert np.abs(decoded(video.frames) - np.stack(frames)).max() <= 4


@pytest.mark.parametrize(("height", "width"), [(63, 96), (64, 85), (63, 85)])
def test_odd_sides_have_the_same_bytes_each_time(tmp_path, height, width):
    """libjpeg reads a row and a column beyond an odd edge: those must be copies, not any memory."""
    path = write_video(tmp_path / "a.mp4", numbered_frames(6, 64, 96))
    results = set()
    for level in range(6):
        np.full((height + 1, width + 1), 40 * level, np.uint8)  # fills memory that is free again
        results.add(tuple(decode(path, FrameSize(height=height, width=width), 90).frames))
    assert len(results) == 1
    video = decode(path, FrameSize(height=height, width=width), 100)
    edges = decoded(video.frames)
    assert np.abs(edges[:, -1] - edges[:, -2]).max() < 12
    assert np.abs(edges[:, :, -1] - edges[:, :, -2]).max() < 12


@pytest.mark.parametrize(
    ("size", "height", "width", "stored"),
    [
        ("240x320", 100, 180, (240, 320)),
        ("short64", 45, 101, (64, 144)),
        ("short64", 101, 45, (144, 64)),
        ("short16", 48, 48, (16, 16)),
    ],
)
def test_stored_size(tmp_path, size, height, width, stored):
    video = decode(
        write_frames(tmp_path / "clip", numbered_frames(2, height, width)),
        FrameSize.parse(size),
        90,
    )
    assert (video.height, video.width) == decoded(video.frames).shape[1:3] == stored


def resize_by_pillow(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    return np.asarray(
        Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR)
    ).astype(float)


@pytest.mark.parametrize(("height", "width"), [(120, 213), (45, 101), (24, 20), (18, 30), (90, 31)])
def test_stored_frames_equal_pillows(tmp_path, height, width):
    """Through a JPEG of quality 100: luma within two levels, colours as near as by way of RGB."""
    rng = np.random.default_rng(0)
    frames = [
        resize_by_pillow(
            rng.integers(0, 256, (height // 8, width // 8, 3), np.uint8), height, width
        ).astype(np.uint8)
        for _ in range(3)
    ]
    path = write_video(tmp_path / "clip.mkv", frames, codec="ffv1", color_range=2)
    video = decode(path, SMALL, 100)
    with av.open(str(path)) as container:
        for frame, jpeg in zip(container.decode(video=0), video.frames, strict=True):
            luma = np.frombuffer(frame.planes[0], np.uint8).reshape(height, -1)[:, :width]
            stored = simplejpeg.decode_jpeg(jpeg, colorspace="GRAY")[..., 0]
            assert np.abs(stored - resize_by_pillow(luma, 24, 32)).max() <= 2
            wanted = resize_by_pillow(frame.to_ndarray(format="rgb24"), 24, 32)
            detour = simplejpeg.encode_jpeg(
                wanted.astype(np.uint8), quality=100, colorsubsampling="420"
            )
            ours, theirs = (
                np.abs(simplejpeg.decode_jpeg(picture).astype(float) - wanted).mean()
                for picture in (jpeg, detour)
            )
            assert ours < 1.25 * theirs + 1


@pytest.mark.parametrize("matrix", [1, 2, 6, 9])  # BT.709, unspecified, BT.601, BT.2020
@pytest.mark.parametrize("full_range", [False, True])
def test_colours(tmp_path, matrix, full_range):
    colour = (200, 60, 90)
    fields = {"colorspace": matrix, "color_range": 2 if full_range else 1}
    path = write_video(
        tmp_path / "flat.mp4", [np.full((48, 64, 3), colour, np.uint8)] * 3, **fields
    )
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        assert (frame.colorspace, frame.color_range == 2) == (matrix, full_range)
    np.testing.assert_allclose(
        decoded(decode(path, SMALL, 100).frames).mean((0, 1, 2)), colour, atol=3
    )


@pytest.mark.parametrize(
    ("codec", "pix_fmt"),
    [("ffv1", "yuv444p"), ("ffv1", "yuv422p10le"), ("ffv1", "bgr0"), ("ffv1", "gray")],
)
def test_rare_pixel_formats(tmp_path, codec, pix_fmt):
    frames = numbered_frames(3, 48, 64)
    video = decode(
        write_video(tmp_path / "clip.mkv", frames, codec=codec, pix_fmt=pix_fmt),
        FrameSize(height=48, width=64),
        100,
    )
    assert np.abs(decoded(video.frames) - np.stack(frames)).max() <= 5


@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_a_phones_rotation(tmp_path, rotation):
    """Only the top left of the file's pictures is bright; positive angles are counter-clockwise."""
    landscape = np.zeros((48, 64, 3), np.uint8)
    landscape[:16, :16] = 255
    turned = remux(
        write_video(tmp_path / "landscape.mp4", [landscape] * 3),
        tmp_path / "turned.mp4",
        rotation=rotation,
    )
    pixels = decoded(decode(turned, FrameSize.parse("short24"), 95).frames)[0, ..., 0]
    expected = np.rot90(resize_by_pillow(landscape, 24, 32)[..., 0], rotation // 90)
    assert pixels.shape == expected.shape
    assert np.abs(pixels - expected).mean() < 3


def test_variable_frame_rate(tmp_path):
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
    levels = decoded(decode(path, SMALL, 95).frames).mean((1, 2, 3))
    assert len(levels) == 6
    assert (np.diff(levels) > 0).all()


def test_an_edit_list_is_obeyed_and_is_no_damage(tmp_path):
    whole = write_video(tmp_path / "whole.mp4", numbered_frames(60, 48, 64), fps=10)
    cut = remux(
        whole,
        tmp_path / "cut.mp4",
        shift_seconds=4,
        options={"use_editlist": "1", "avoid_negative_ts": "disabled"},
    )
    assert decode(cut, SMALL, 90).frames == decode(whole, SMALL, 90).frames[40:]


def test_broken_files_say_what_is_wrong(tmp_path):
    whole = {
        suffix: write_video(tmp_path / f"whole{suffix}", numbered_frames(48, 48, 64))
        for suffix in (".mp4", ".webm", ".avi")
    }
    for suffix, path in whole.items():
        content = path.read_bytes()
        (tmp_path / f"half{suffix}").write_bytes(content[: len(content) // 2])
    (tmp_path / "nothing.mp4").touch()
    (tmp_path / "text.avi").write_text("not a video")
    assert reason(tmp_path / "half.mp4") == "Invalid data found when processing input"
    assert "the file's header promises 4.0 s" in reason(tmp_path / "half.webm")
    # As the decoder finds it.
    assert any(
        word in reason(tmp_path / "half.avi") for word in ("damaged", "cut off", "Invalid data")
    )
    assert reason(tmp_path / "nothing.mp4") == "the file is empty"
    assert reason(tmp_path / "text.avi") == "Invalid data found when processing input"
    assert reason(write_empty_video(tmp_path / "none.avi")) == "no frame in this file"
    assert reason(tmp_path / "missing.mp4") == "No such file or directory"


def test_flipped_bytes_inside_a_file_are_noticed(tmp_path):
    path = write_video(tmp_path / "clip.mp4", numbered_frames(48, 48, 64))
    content = bytearray(path.read_bytes())
    for position in range(len(content) // 4, len(content) // 2, 97):
        content[position] ^= 0xFF
    path.write_bytes(content)
    assert reason(path)


@pytest.mark.parametrize(
    ("pattern", "first"),
    [
        ("%05d.jpg", 1),
        ("%05d.jpg", 0),
        ("img_%05d.jpg", 1),
        ("frame_%010d.jpg", 1),
        ("%d.JPG", 0),
        ("v_2 %d.jpeg", 9),
    ],
)
def test_frame_folders(tmp_path, pattern, first):
    frames = numbered_frames(12, 24, 32)
    folder = write_frames(tmp_path / "clip", frames, pattern, first)
    (folder / "._00001.jpg").write_bytes(b"what macOS leaves")
    (folder / "notes.txt").touch()
    video = decode(folder, SMALL, 98)
    assert (video.form, video.fps, video.gaps) == (f"{pattern} from {first}", 0.0, "")
    assert np.abs(decoded(video.frames) - np.stack(frames)).max() <= 4


def test_png_frames(tmp_path):
    frames = numbered_frames(3, 24, 32)
    for number, pixels in enumerate(frames):
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    assert np.abs(decoded(decode(tmp_path, SMALL, 100).frames) - np.stack(frames)).max() <= 3
    content = (tmp_path / "1.png").read_bytes()
    (tmp_path / "1.png").write_bytes(content[: len(content) // 2])
    assert "frame 1.png is damaged" in reason(tmp_path)


def test_gaps_are_stated_and_nothing_fills_them(tmp_path):
    folder = write_frames(tmp_path / "clip", numbered_frames(12, 24, 32))
    for number in (3, 4, 5, 9):
        (folder / f"{number:05d}.jpg").unlink()
    video = decode(folder, SMALL, 90)
    assert (len(video.frames), video.gaps) == (8, "3 to 5, 9")


def test_broken_folders_say_what_is_wrong(tmp_path):
    assert reason(tmp_path).endswith("it is empty")
    (tmp_path / "readme.txt").touch()
    assert "no .jpg or .png frames in this folder: it has readme.txt" in reason(tmp_path)
    folder = write_frames(tmp_path / "clip", numbered_frames(4, 24, 32))
    content = (folder / "00003.jpg").read_bytes()
    (folder / "00003.jpg").write_bytes(content[: len(content) // 2])
    assert "frame 00003.jpg is damaged" in reason(folder)
    (folder / "00003.jpg").write_bytes(b"")
    assert reason(folder) == "frame 00003.jpg is empty"
    (folder / "00003.jpg").write_bytes(b"GIF89a")
    assert reason(folder) == "frame 00003.jpg is neither JPEG nor PNG"
    write_frames(folder, numbered_frames(4, 24, 32), "other_%05d.jpg")
    assert "two kinds of frame names" in reason(folder)


def test_the_cores_of_this_process(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {1, 4, 5}, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert cores() == 3


def test_without_affinity_all_cores_count(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert cores() == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert cores() == 1
