"""Crops: exactly those the reference can draw; a flip takes its label along."""

import itertools
import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aia_jax.data.augment import TrainTransform
from aia_jax.data.crops import crop_frames, crop_offsets, crop_sizes, draw_crop
from aia_jax.data.flips import flip_pairs
from aia_jax.data.view_crops import CROPS, center_crop, view_boxes
from aia_jax.video.resize import Box
from tests.helpers.paths import GOLDEN

GOLDEN = json.loads((GOLDEN / "aia_multiscale_crops.json").read_text())
GEOMETRIES = [tuple(map(int, key.split("x"))) for key in GOLDEN if "|" not in key]


@pytest.mark.parametrize(("width", "height"), GEOMETRIES)
def test_golden_crops(width, height):
    sizes = crop_sizes(height, width, 224)
    assert [list(pair) for pair in sizes] == GOLDEN[f"{width}x{height}|pairs"]
    crops = {(*pair, *offset) for pair in sizes for offset in crop_offsets(height, width, *pair)}
    assert crops == {tuple(crop) for crop in GOLDEN[f"{width}x{height}"]}


def test_crops_are_drawn_over_sizes_and_then_over_corners():
    rng = np.random.default_rng(0)
    draws = [draw_crop(240, 320, 224, rng) for _ in range(13000)]
    assert {tuple(crop) for crop in draws} == {tuple(crop) for crop in GOLDEN["320x240"]}
    sizes = Counter((crop.width, crop.height) for crop in draws)
    assert all(abs(count - 1300) < 180 for count in sizes.values())  # 5 standard deviations
    corners = Counter((crop.x, crop.y) for crop in draws if (crop.width, crop.height) == (180, 210))
    assert len(corners) == 13
    assert all(abs(count - 100) < 55 for count in corners.values())


@settings(deadline=None)
@given(st.integers(1, 400), st.integers(1, 400), st.integers(1, 300), st.integers(0, 2**32))
def test_crops_lie_in_the_frame(height, width, size, seed):
    size = min(size, height, width)
    drawn = draw_crop(height, width, size, np.random.default_rng(seed))
    rules = ("reference", "uniform", "mmaction2", "dense32")
    test_crops = (view_boxes(crops, height, width, size, r) for r in rules for crops in CROPS)
    for box in (drawn, *itertools.chain(*test_crops)):
        assert min(box.width, box.height) > 0
        assert box.x >= 0
        assert box.y >= 0
        assert box.x + box.width <= width
        assert box.y + box.height <= height


@pytest.mark.parametrize("mirror", [False, True])
def test_a_crop_that_hangs_over_the_frame_is_black_there(mirror):
    frame = np.random.default_rng(0).integers(1, 256, (10, 14, 3), np.uint8)
    out = np.ones((1, 16, 16, 3), np.uint8)
    crop_frames([frame], center_crop(10, 14, 16), (10, 14), out, mirror)
    expected = np.zeros((16, 16, 3), np.uint8)
    expected[3:13, 1:15] = frame
    np.testing.assert_array_equal(out[0], expected[:, ::-1] if mirror else expected)
    # Stored at twice the recipe's size: the border keeps its width.
    crop_frames([frame.repeat(2, 0).repeat(2, 1)], center_crop(10, 14, 16), (10, 14), out)
    assert not out[:, :3].any() and not out[:, 13:].any() and out[:, 3:13, 1:15].all()


def test_a_frame_stored_in_another_size_is_cropped_at_the_same_position():
    grid = np.stack(np.meshgrid(np.linspace(0, 255, 640), np.linspace(0, 255, 480)), axis=-1)
    # Pixels say where they are.
    stored = np.concatenate([grid, grid[..., :1]], axis=-1).round().astype(np.uint8)
    resized = stored.reshape(240, 2, 320, 2, 3).mean(axis=(1, 3)).round().astype(np.uint8)
    once, twice = np.zeros((2, 1, 224, 224, 3), np.uint8)
    for box in (Box(224, 224, 48, 8), Box(180, 210, 35, 14), Box(240, 240, 80, 0)):
        crop_frames([stored], box, (240, 320), once)
        crop_frames([resized], box, (240, 320), twice)
        np.testing.assert_allclose(once.astype(int), twice, atol=2)


@settings(max_examples=60, deadline=None)
@given(stored=st.integers(20, 60), recipe=st.integers(20, 60), seed=st.integers(0, 2**32 - 1))
def test_every_crop_of_a_frame_stored_in_another_size_can_be_cut(stored, recipe, seed):
    """A box in the stored frame has fractions of pixels; rounding may move its edge outside."""
    frame = np.full((stored, stored + 3, 3), 77, np.uint8)
    out = np.zeros((1, 16, 16, 3), np.uint8)
    rng = np.random.default_rng(seed)
    for _ in range(8):
        crop_frames([frame], draw_crop(recipe, recipe, 16, rng), (recipe, recipe), out)
        assert np.all(out == 77)


def test_a_crop_at_the_edge_that_rounds_beyond_it():
    out = np.zeros((1, 24, 24, 3), np.uint8)
    # 4·36/28 + 24·36/28 > 36.
    crop_frames([np.full((36, 36, 3), 77, np.uint8)], Box(24, 24, 4, 4), (28, 28), out)
    assert np.all(out == 77)


def transform(**fields) -> TrainTransform:
    partner = flip_pairs(["move left", "move right", "stand", "lean left"]).partner
    return TrainTransform(
        **{"num_frames": 4, "size": 20, "partner": partner, "resize": None} | fields
    )


def apply(
    one: TrainTransform, label: int, seed: int, frames: list[np.ndarray]
) -> tuple[np.ndarray, int]:
    out = np.zeros((len(frames), one.size, one.size, 3), np.uint8)
    return out, one(frames, label, np.random.default_rng(seed), out)


@pytest.mark.parametrize(("label", "flipped"), [(0, 1), (1, 0), (2, 2)])
def test_a_flip_mirrors_the_pixels_and_swaps_the_label(label, flipped):
    frames = list(np.random.default_rng(0).integers(0, 256, (4, 24, 32, 3), np.uint8))
    for seed in range(30):  # crops that are copied, enlarged and shrunk
        as_is, same = apply(transform(flip=0.0), label, seed, frames)
        mirrored, other = apply(transform(flip=1.0), label, seed, frames)
        assert (same, other) == (label, flipped)
        np.testing.assert_allclose(mirrored[:, :, ::-1].astype(int), as_is, atol=1)


def test_a_side_without_a_partner_is_never_flipped():
    frames = list(np.random.default_rng(0).integers(0, 256, (4, 24, 32, 3), np.uint8))
    for seed in range(10):
        np.testing.assert_array_equal(
            apply(transform(flip=1.0), 3, seed, frames)[0],
            apply(transform(flip=0.0), 3, seed, frames)[0],
        )
        assert apply(transform(flip=1.0), 3, seed, frames)[1] == 3


def test_half_of_the_clips_are_flipped():
    frames = [np.zeros((24, 32, 3), np.uint8)] * 4
    flips = sum(apply(transform(), 0, seed, frames)[1] == 1 for seed in range(400))
    assert 150 < flips < 250


def test_all_frames_of_a_clip_are_cut_alike():
    frames = [np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)] * 4
    for seed in range(10):
        clip, _ = apply(transform(), 0, seed, frames)
        assert (clip == clip[0]).all()
    assert len({apply(transform(), 2, seed, frames)[0].tobytes() for seed in range(20)}) > 10


def test_frames_smaller_than_the_crop_are_enlarged():
    frames = list(np.random.default_rng(0).integers(1, 256, (4, 9, 7, 3), np.uint8))
    clip, _ = apply(transform(), 2, 0, frames)
    assert clip.all()
