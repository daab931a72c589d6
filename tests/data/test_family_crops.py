"""Crops of the video transformers: the authors' three test crops, and short-side jitter."""

import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aia_jax.data.augment import TrainTransform
from aia_jax.data.crops import draw_jittered_crop
from aia_jax.data.view_crops import center_crop, three_crops
from aia_jax.data.views import Views
from aia_jax.frame_geometry import geometry
from tests.helpers.paths import GOLDEN

CROPS = {
    key: value
    for key, value in json.loads((GOLDEN / "family_sampling.json").read_text()).items()
    if "crops" in key
}


@pytest.mark.parametrize("key", CROPS)
def test_golden_three_crops(key):
    width, height = map(int, key.split("|")[1].split("x"))
    resized = geometry(height, width, "short224")
    assert list(resized[::-1]) == CROPS[key]["resized"]
    boxes = three_crops(*resized, 224, "dense32")
    assert [[box.x, box.y] for box in boxes] == CROPS[key]["offsets"]
    assert {(box.width, box.height) for box in boxes} == {(224, 224)}
    assert center_crop(*resized, 224, "dense32") == boxes[0]


def test_views_take_the_crops_of_the_rule():
    picture = np.random.default_rng(0).integers(0, 256, (20, 31, 3), np.uint8)
    inverse = np.zeros((1, 1), np.int64)
    found = Views(1, 3).crop_frames([picture], inverse, 20, None, "dense8")
    for view, left in zip(found[:, 0], (5, 0, 11), strict=True):  # (31 - 20) / 2, rounded down
        np.testing.assert_array_equal(view, picture[:, left : left + 20])
    alone = Views(1, 1).crop_frames([picture], inverse, 20, None, "dense8")
    np.testing.assert_array_equal(alone[0], found[0])


def test_frames_smaller_than_the_crop_hang_over_on_both_sides():
    assert set(three_crops(20, 24, 30, "dense8")) == {center_crop(20, 24, 30, "dense8")}
    picture = np.full((20, 24, 3), 7, np.uint8)
    view = Views(1, 3).crop_frames([picture], np.zeros((1, 1), np.int64), 30, None, "dense8")[0, 0]
    assert view[5:25, 3:27].all() and view.sum() == 7 * picture.size


@settings(deadline=None)
@given(
    st.integers(1, 400), st.integers(1, 400), st.integers(1, 60), st.integers(0, 80), st.integers()
)
def test_a_jittered_crop_lies_in_its_frame(height, width, size, more, seed):
    rng = np.random.default_rng(abs(seed))
    frame, box = draw_jittered_crop(height, width, size, rng, (size, size + more))
    assert size <= min(frame) <= size + more
    assert frame == geometry(height, width, f"short{min(frame)}")
    assert (box.width, box.height) == (size, size) and min(box.x, box.y) >= 0
    assert box.x + size <= frame[1] and box.y + size <= frame[0]


def test_short_sides_and_corners_are_equally_likely():
    rng = np.random.default_rng(0)
    draws = [draw_jittered_crop(240, 240, 224, rng, (224, 227)) for _ in range(4000)]
    sides = Counter(frame for frame, _ in draws)
    assert set(sides) == {(side, side) for side in range(224, 228)}
    assert all(abs(count - 1000) < 140 for count in sides.values())  # 5 standard deviations
    corners = Counter((box.x, box.y) for frame, box in draws if frame == (225, 225))
    assert set(corners) == {(0, 0), (0, 1), (1, 0), (1, 1)}


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_a_transform_with_a_short_side_cuts_the_jittered_crop(flip):
    # Pixels say where they are: x and y in 255ths of the frame.
    grid = np.meshgrid(np.linspace(0, 255, 128), np.linspace(0, 255, 96))
    frame = np.stack([*grid, grid[0]], axis=-1).round().astype(np.uint8)
    transform = TrainTransform(1, 40, np.arange(3), resize=None, flip=flip, short_side=(48, 80))
    for seed in range(20):
        out = np.zeros((1, 40, 40, 3), np.uint8)
        assert transform([frame], 2, np.random.default_rng(seed), out) == 2
        (height, width), box = draw_jittered_crop(
            96, 128, 40, np.random.default_rng(seed), (48, 80)
        )
        shown = out[0, :, ::-1] if flip else out[0]
        x, y = (np.arange(40) + 0.5 + corner for corner in (box.x, box.y))
        np.testing.assert_allclose(shown[20, :, 0], x / width * 256 - 1, atol=2.5)
        np.testing.assert_allclose(shown[:, 20, 1], y / height * 256 - 1, atol=2.5)
