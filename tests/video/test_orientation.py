"""Turned and mirrored sources are put upright, as players and viewers show them."""

import io
import itertools

import numpy as np
import pytest
from PIL import Image, ImageOps

from aia_jax.video.decode import decode, pictures
from aia_jax.video.frame_size import FrameSize
from aia_jax.video.orientation import UPRIGHT, jpeg_orientation, matrix_orientation
from aia_jax.video.picture import read_picture
from tests.helpers.raw_videos import decoded, remux, write_video

ONE = 1 << 16  # 1 in the fixed-point numbers of a display matrix
STRAIGHT = [(a * ONE, 0, 0, d * ONE) for a, d in itertools.product((1, -1), repeat=2)]
CROSSED = [(0, b * ONE, c * ONE, 0) for b, c in itertools.product((1, -1), repeat=2)]


def picture(height: int = 32, width: int = 48) -> np.ndarray:
    """No turn and no mirror leaves it as it is: its four quarters differ."""
    quarters = np.array([[40, 100], [170, 240]], np.uint8)
    return np.kron(quarters, np.ones((height // 2, width // 2), np.uint8))[..., None].repeat(3, 2)


def move_pixels(pixels: np.ndarray, a: int, b: int, c: int, d: int) -> np.ndarray:
    """Moves each pixel (p, q) to (a·p + c·q, b·p + d·q), as the MP4 standard says."""
    rows, columns = np.indices(pixels.shape[:2])
    x, y = (np.sign(a) * columns + np.sign(c) * rows, np.sign(b) * columns + np.sign(d) * rows)
    x, y = x - x.min(), y - y.min()
    out = np.empty((y.max() + 1, x.max() + 1, 3), np.uint8)
    out[y, x] = pixels
    return out


@pytest.mark.parametrize("numbers", [*STRAIGHT, *CROSSED])
def test_the_whole_display_matrix_is_applied(tmp_path, numbers):
    a, b, c, d = numbers
    path = remux(
        write_video(tmp_path / "plain.mp4", [picture()] * 3),
        tmp_path / "moved.mp4",
        matrix=(a, b, 0, c, d, 0, 0, 0, 1 << 30),
    )
    expected = move_pixels(picture(), a, b, c, d).astype(int)
    shown = next(pictures(path)).astype(int)
    assert shown.shape == expected.shape
    assert np.abs(shown - expected).mean() < 6
    stored = decoded(decode(path, FrameSize.parse("short32"), 95).frames)[0]
    assert stored.shape == expected.shape
    assert np.abs(stored - expected).mean() < 6


def test_a_matrix_of_zeros_moves_nothing():
    assert matrix_orientation(np.zeros(9, np.int32)) == UPRIGHT


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("value", range(1, 9))
def test_exif_orientations(kind, value):
    exif = Image.Exif()
    exif[0x0112] = value
    buffer = io.BytesIO()
    Image.fromarray(picture()).save(buffer, kind, exif=exif, quality=95)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(buffer)))
    found = read_picture(buffer.getvalue(), "0.jpg")
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).max() <= 3


@pytest.mark.parametrize("order", ["<", ">"])
def test_damaged_exif_counts_as_upright(order):
    head = {"<": b"II*\0", ">": b"MM\0*"}[order]
    for tiff in (b"", head, head + b"\xff" * 4, head + b"\x08\0\0\0" + b"\xff" * 30, b"XX" * 9):
        segment = b"Exif\0\0" + tiff
        content = b"\xff\xd8\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment
        assert jpeg_orientation(content) == UPRIGHT
        assert jpeg_orientation(content[: len(content) // 2]) == UPRIGHT
