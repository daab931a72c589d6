"""Changes of colour agree with Pillow's, on the clip as one tall picture."""

from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.colors import hsv_to_rgb, rgb_to_hsv
from PIL import Image, ImageEnhance, ImageOps

from aia_jax.data import photometric
from tests.helpers.clips import coarse_clip

# Name, arguments, Pillow's operation, the most levels by which they may differ. Pillow cuts
# fractions off, also those of contrast's mean and of saturation's luma.
CASES = [
    ("brightness", (0.3,), lambda picture: ImageEnhance.Brightness(picture).enhance(0.3), 1),
    ("brightness", (1.7,), lambda picture: ImageEnhance.Brightness(picture).enhance(1.7), 1),
    ("contrast", (0.19,), lambda picture: ImageEnhance.Contrast(picture).enhance(0.19), 1),
    ("contrast", (1.81,), lambda picture: ImageEnhance.Contrast(picture).enhance(1.81), 1),
    ("saturation", (0.0,), lambda picture: ImageEnhance.Color(picture).enhance(0.0), 1),
    ("saturation", (1.9,), lambda picture: ImageEnhance.Color(picture).enhance(1.9), 2),
    ("auto_contrast", (), ImageOps.autocontrast, 1),
    ("equalize", (), ImageOps.equalize, 0),
    ("invert", (), ImageOps.invert, 0),
    ("posterize", (1,), lambda picture: ImageOps.posterize(picture, 1), 0),
    ("posterize", (8,), lambda picture: picture, 0),
    ("solarize", (26,), lambda picture: ImageOps.solarize(picture, 26), 0),
    ("solarize", (256,), lambda picture: picture, 0),
    (
        "solarize_add",
        (99,),
        lambda picture: picture.point([min(255, k + 99) if k < 128 else k for k in range(256)] * 3),
        0,
    ),
]


@pytest.mark.parametrize(("name", "arguments", "oracle", "levels"), CASES)
def test_pillow_makes_the_same_of_a_tall_picture(
    name: str, arguments: tuple, oracle: Callable, levels: int
):
    clip = coarse_clip()
    expected = np.asarray(oracle(Image.fromarray(clip.reshape(-1, clip.shape[2], 3))))
    getattr(photometric, name)(clip, *arguments)
    np.testing.assert_allclose(clip.reshape(expected.shape).astype(int), expected, atol=levels)


@pytest.mark.parametrize("factor", [0.1, 1.9])
def test_pillow_sharpens_each_frame_the_same(factor):
    clip = coarse_clip()
    expected = [ImageEnhance.Sharpness(Image.fromarray(frame)).enhance(factor) for frame in clip]
    photometric.sharpness(clip, factor)
    np.testing.assert_allclose(clip.astype(int), np.stack(expected), atol=2)


@pytest.mark.parametrize("turn", [0.1, -0.3, 0.5])
def test_the_hue_turns_as_it_does_in_floats(turn):
    """OpenCV has 256 hues, 6 levels of a colour apart. Pillow's errors go up to 16 levels."""
    clip = coarse_clip()
    hsv = rgb_to_hsv(clip / 255)
    hsv[..., 0] = (hsv[..., 0] + turn) % 1
    photometric.hue(clip, turn)
    errors = np.abs(clip - 255 * hsv_to_rgb(hsv))
    assert errors.mean() < 1
    assert errors.max() < 10


@pytest.mark.parametrize("turn", [0.0, 0.001, -0.001, 1.0])
def test_no_turn_changes_nothing(turn):
    clip = coarse_clip()
    photometric.hue(clip, turn)
    np.testing.assert_array_equal(clip, coarse_clip())


@pytest.mark.parametrize("turn", [-0.5, -0.1, 0.5])
def test_grey_has_no_hue_to_turn(turn):
    clip = np.repeat(coarse_clip()[..., :1], 3, axis=-1)
    expected = clip.copy()
    photometric.hue(clip, turn)
    np.testing.assert_array_equal(clip, expected)


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation", "sharpness"])
def test_a_factor_of_one_changes_nothing(name):
    clip = coarse_clip()
    getattr(photometric, name)(clip, 1.0)
    np.testing.assert_array_equal(clip, coarse_clip())


@pytest.mark.parametrize("name", ["auto_contrast", "equalize"])
def test_a_clip_of_one_colour_stays_as_it_is(name):
    clip = np.full((2, 8, 8, 3), 77, np.uint8)
    getattr(photometric, name)(clip)
    assert np.all(clip == 77)


@pytest.mark.parametrize("name", ["auto_contrast", "equalize"])
def test_light_that_changes_from_frame_to_frame_still_does(name):
    clip = np.stack([coarse_clip(1)[0] // 4 + offset for offset in (0, 60)]).astype(np.uint8)
    getattr(photometric, name)(clip)
    assert clip[1].mean() > clip[0].mean() + 60


def test_memory_that_is_not_one_piece_is_refused_instead_of_being_left_as_it_is():
    with pytest.raises(ValueError, match="contiguous"):
        photometric.invert(coarse_clip()[:, :, ::2])
