"""Cropping and resizing equal Pillow's, on noise, where a wrong filter shows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from aia_jax.video.resize import Box, resize_box


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def ours(frame: np.ndarray, box: Box, size: tuple[int, int], mirror: bool = False) -> np.ndarray:
    out = np.zeros((1, *size, 3), np.uint8)
    resize_box([frame], box, out, mirror)
    return out[0].astype(int)


def pillow(frame: np.ndarray, box: Box, size: tuple[int, int]) -> np.ndarray:
    left, top = int(box.x), int(box.y)
    right, bottom = int(np.ceil(box.x + box.width)), int(np.ceil(box.y + box.height))
    cropped = Image.fromarray(np.ascontiguousarray(frame[top:bottom, left:right]))
    inside = (box.x - left, box.y - top, box.x - left + box.width, box.y - top + box.height)
    return np.asarray(cropped.resize(size[::-1], Image.BILINEAR, box=inside)).astype(int)


@pytest.mark.parametrize("width", [158, 180, 210, 240])
@pytest.mark.parametrize("height", [158, 180, 210, 240])
@pytest.mark.parametrize("mirror", [False, True])
def test_recipe_crops(width, height, mirror):
    frame, box = noise(240, 320), Box(width, height, 17, 0)
    expected = pillow(frame, box, (224, 224))
    np.testing.assert_allclose(
        ours(frame, box, (224, 224), mirror), expected[:, ::-1] if mirror else expected, atol=2
    )


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 90),
    st.integers(1, 90),
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(0, 99),
)
def test_any_size_from_any_whole_box(height, width, out_height, out_width, seed):
    frame, box = noise(height + 3, width + 5, seed), Box(width, height, 4, 2)
    expected = pillow(frame, box, (out_height, out_width))
    np.testing.assert_allclose(ours(frame, box, (out_height, out_width)), expected, atol=2)


@settings(max_examples=60, deadline=None)
@given(st.floats(5, 60), st.floats(5, 60), st.floats(0, 9), st.floats(0, 9), st.integers(0, 99))
def test_boxes_between_pixels(height, width, x, y, seed):
    frame, box = noise(70, 70, seed), Box(width, height, x, y)
    np.testing.assert_allclose(ours(frame, box, (24, 20)), pillow(frame, box, (24, 20)), atol=2)


def test_a_box_of_the_right_size_is_copied():
    frame = noise(240, 320)
    np.testing.assert_array_equal(
        ours(frame, Box(224, 224, 48, 8), (224, 224)), frame[8:232, 48:272]
    )
    np.testing.assert_array_equal(
        ours(frame, Box(224, 224, 48, 8), (224, 224), mirror=True), frame[8:232, 48:272][:, ::-1]
    )


def test_every_frame_is_filled():
    frames = [noise(30, 40, seed) for seed in range(3)]
    for box in (Box(20, 20, 3, 4), Box(10, 12, 3, 4), Box(28, 20, 3, 4)):
        out = np.zeros((3, 20, 20, 3), np.uint8)
        resize_box(frames, box, out)
        for frame, picture in zip(frames, out, strict=True):
            np.testing.assert_array_equal(picture, ours(frame, box, (20, 20)))
