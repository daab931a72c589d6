"""The crops of a test: the references' places, and those of the other rules."""

import json

import numpy as np
import pytest

from aia_jax.data.view_crops import center_crop, five_crops, three_crops, view_boxes
from aia_jax.data.views import Views, mirror_notes
from aia_jax.video.resize import Box
from tests.helpers.paths import GOLDEN

GOLDEN_CROPS = {
    key: views
    for key, views in json.loads((GOLDEN / "aia_eval_crops.json").read_text()).items()
    if not key.startswith("resize")
}


def corners(boxes: tuple[Box, ...]) -> list[tuple[int | float, int | float]]:
    return [(box.x, box.y) for box in boxes]


@pytest.mark.parametrize("key", GOLDEN_CROPS)
def test_golden_crops_of_a_test(key):
    frame, size, crops = key.split("|")
    (width, height), size, crops = map(int, frame.split("x")), int(size), int(crops)
    boxes = view_boxes(crops, height, width, size)
    mirrors = (0, 1) if Views(1, crops).mirrored else (0,)
    assert [[box.x, box.y, mirror] for box in boxes for mirror in mirrors] == GOLDEN_CROPS[key]
    assert {(box.width, box.height) for box in boxes} == {(size, size)}


@pytest.mark.parametrize("crops", [3, 5, 10])
def test_the_views_are_the_pixels_of_the_golden_places(crops):
    # Pixels say where they are.
    rows, columns = np.mgrid[:256, :340]
    picture = np.stack([rows, columns % 256, columns // 256], axis=-1).astype(np.uint8)
    views = Views(1, crops).crop_frames([picture], np.zeros((1, 1), np.int64), 224, None)
    assert len(views) == crops
    for view, (x, y, mirrored) in zip(views, GOLDEN_CROPS[f"340x256|224|{crops}"], strict=True):
        expected = picture[y : y + 224, x : x + 224]
        np.testing.assert_array_equal(view[0], expected[:, ::-1] if mirrored else expected)


def test_mirrored_views_of_several_clips_follow_their_crops():
    pictures = list(np.random.default_rng(0).integers(0, 256, (5, 16, 21, 3), np.uint8))
    inverse = np.array([[0, 2, 2], [4, 1, 3]])
    ten = Views(2, 10).crop_frames(pictures, inverse, 12, None).reshape(2, 5, 2, 3, 12, 12, 3)
    five = Views(2, 5).crop_frames(pictures, inverse, 12, None).reshape(2, 5, 3, 12, 12, 3)
    np.testing.assert_array_equal(ten[:, :, 0], five)
    np.testing.assert_array_equal(ten[:, :, 1], five[:, :, :, :, ::-1])


def test_uniform_sampling_takes_crops_from_edge_to_edge():
    upright, wide = three_crops(323, 240, 240, "uniform"), three_crops(240, 323, 240, "uniform")
    assert corners(upright) == [(0, 0), (0, 83), (0, 42)]
    assert corners(wide) == [(0, 0), (83, 0), (42, 0)]
    assert len(set(three_crops(20, 24, 30, "uniform"))) == 1
    assert corners(five_crops(241, 323, 224, "uniform")) == [
        *((0, 0), (99, 0), (0, 17), (99, 17), (50, 8))
    ]
    assert corners(five_crops(20, 34, 30, "dense8")) == [(0, -5), (4, -5)] * 2 + [(2, -5)]


def test_mmaction2_takes_halves_of_the_room_along_the_longer_side():
    assert corners(three_crops(256, 341, 256, "mmaction2")) == [(0, 0), (84, 0), (42, 0)]
    assert corners(three_crops(343, 256, 256, "mmaction2")) == [(0, 0), (0, 86), (0, 43)]
    assert center_crop(256, 341, 224, "mmaction2") == Box(224, 224, 58, 16)
    assert center_crop(255, 343, 224, "mmaction2") == Box(224, 224, 59, 15)
    assert len(set(three_crops(200, 240, 256, "mmaction2"))) == 1
    assert five_crops(256, 341, 224, "mmaction2") == five_crops(256, 341, 224)


def test_a_centre_crop_of_an_odd_frame_starts_at_the_even_pixel():
    assert center_crop(256, 427, 224) == Box(224, 224, 102, 16)
    assert three_crops(256, 427, 224)[2] == Box(224, 224, 100, 16)


def test_mirrored_views_of_classes_that_name_a_side_are_said():
    (note,) = mirror_notes(Views(2, 10), ["move left", "move right", "stand"])
    assert "half of the 2x10 views" in note and "2 classes" in note and "'move left'" in note
    assert "--views 2x5" in note
    assert not mirror_notes(Views(2, 5), ["move left", "move right"])
    assert not mirror_notes(Views(2, 10), ["stand", "upright"])
