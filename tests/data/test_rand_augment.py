"""RandAugment: operations as Pillow and timm have them, the same for all frames of a clip."""

from collections import Counter

import numpy as np
import pytest
from PIL import Image

from aia_jax.data import rand_augment
from aia_jax.data.rand_augment import FILL, OPERATIONS, RandAugment
from tests.helpers.clips import coarse_clip

HEIGHT, WIDTH = coarse_clip().shape[1:3]
# Operation, how far it goes, and Pillow's coefficients (timm's shear_x, shear_y, translate_…_rel).
AFFINE = [
    ("shear_x", 0.27, (1, 0.27, 0, 0, 1, 0)),
    ("shear_x", -0.27, (1, -0.27, 0, 0, 1, 0)),
    ("shear_y", 0.1, (1, 0, 0, 0.1, 1, 0)),
    ("translate_x", 0.25, (1, 0, 0.25 * WIDTH, 0, 1, 0)),
    ("translate_x", -0.25, (1, 0, -0.25 * WIDTH, 0, 1, 0)),
    ("translate_y", 0.4, (1, 0, 0, 0, 1, 0.4 * HEIGHT)),
    ("translate_y", -0.4, (1, 0, 0, 0, 1, -0.4 * HEIGHT)),
]


def assert_close_inside(clip: np.ndarray, expected: list[Image.Image]) -> None:
    """Compares where Pillow shows the frame; at its edge OpenCV mixes it with the fill."""
    for frame, picture in zip(clip, expected, strict=True):
        shown = np.array(picture.split()[3]) == 255
        inside = shown.copy()
        inside[1:-1, 1:-1] &= (
            shown[:-2, 1:-1] & shown[2:, 1:-1] & shown[1:-1, :-2] & shown[1:-1, 2:]
        )
        assert inside.sum() > HEIGHT * WIDTH // 3
        errors = np.abs(frame.astype(int) - np.array(picture)[..., :3])[inside]
        assert np.quantile(errors, 0.99) <= 4  # OpenCV's places are multiples of 1/32 pixel
        far = ~shown
        far[1:-1, 1:-1] &= ~(
            shown[:-2, 1:-1] | shown[2:, 1:-1] | shown[1:-1, :-2] | shown[1:-1, 2:]
        )
        far[[0, -1]] = far[:, [0, -1]] = False
        assert (frame[far] == FILL).all()


def pictures(clip: np.ndarray) -> list[Image.Image]:
    """With a fourth channel, which is 0 where a moved picture does not reach."""
    return [Image.fromarray(frame).convert("RGBA") for frame in clip]


@pytest.mark.parametrize(("name", "value", "coefficients"), AFFINE)
def test_pillow_moves_the_frames_to_the_same_place(name, value, coefficients):
    clip = coarse_clip()
    expected = [
        picture.transform(
            picture.size, Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR
        )
        for picture in pictures(clip)
    ]
    getattr(rand_augment, name)(clip, value)
    assert_close_inside(clip, expected)


@pytest.mark.parametrize("degrees", [27.0, -30.0])
def test_pillow_turns_the_frames_the_same_way(degrees):
    clip = coarse_clip()
    expected = [picture.rotate(degrees, Image.Resampling.BILINEAR) for picture in pictures(clip)]
    rand_augment.rotate(clip, degrees)
    assert_close_inside(clip, expected)


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_changes_more_at_a_greater_strength(name):
    """Those without a strength change the same."""
    # Lighter to the right and below, so that a longer way changes more.
    ramps = np.linspace(0, 100, WIDTH) + np.linspace(0, 100, HEIGHT)[:, None]
    original = (coarse_clip() // 5 + ramps[..., None]).astype(np.uint8)
    changes = []
    for strength in (0.1, 0.5, 1.0):
        clip = original.copy()
        OPERATIONS[name](clip, strength)
        changes.append(np.abs(clip.astype(int) - original).mean())
    assert changes == sorted(changes)
    assert changes[-1] > 0.1
    without_strength = {"auto_contrast", "equalize", "invert"}
    assert (changes[0] == changes[-1]) == (name in without_strength)


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("strength", [-0.9, 1.0])
def test_an_operation_does_the_same_to_all_frames(name, strength):
    clip = np.repeat(coarse_clip(1), 3, axis=0)
    OPERATIONS[name](clip, strength)
    assert (clip == clip[0]).all()
    assert clip.any()  # posterize keeps a bit at full strength


def test_operations_and_signs_are_drawn_evenly_and_half_of_them_are_left_out(monkeypatch):
    drawn = []
    monkeypatch.setattr(
        rand_augment,
        "_OPERATIONS",
        tuple(
            lambda clip, strength, name=name: drawn.append((name, strength)) for name in OPERATIONS
        ),
    )
    rng, clip = np.random.default_rng(0), coarse_clip(1)
    for _ in range(3000):
        RandAugment(count=2, magnitude=9.0, prob=0.5)(clip, rng)
    assert abs(len(drawn) - 3000) < 200  # 5 standard deviations
    counts = Counter(drawn)
    assert set(counts) == {(name, sign * 0.9) for name in OPERATIONS for sign in (-1, 1)}
    assert all(abs(count - 100) < 50 for count in counts.values())


def test_a_magnitude_of_zero_leaves_what_has_a_strength():
    names = set(OPERATIONS) - {"auto_contrast", "equalize", "invert", "posterize"}  # 4 bits at 0
    for name in names:
        clip = coarse_clip()
        OPERATIONS[name](clip, 0.0)
        np.testing.assert_allclose(clip.astype(int), coarse_clip(), atol=1, err_msg=name)
