"""RandAugment for clips: a few operations out of fifteen, the same for all frames.

Cubuk et al. 2020 (arXiv 1909.13719), with the operations and strengths of timm's `rand-…-inc1`:
every operation changes more with a greater magnitude, and either way with equal probability where
it has two. They work on the pixels of the crop, after the flip, as timm and mmaction2 do.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from aia_jax.data import photometric

FULL_MAGNITUDE = 10.0
FILL = 128  # grey, where a moved frame does not reach


def shear_x(clip: np.ndarray, factor: float) -> None:
    """Moves each row to the left by `factor` times its distance from the top."""
    # A pixel's middle lies half a pixel below its upper edge.
    _warp(clip, np.array([[1.0, factor, factor / 2], [0.0, 1.0, 0.0]]))


def shear_y(clip: np.ndarray, factor: float) -> None:
    """Moves each column up by `factor` times its distance from the left."""
    _warp(clip, np.array([[1.0, 0.0, 0.0], [factor, 1.0, factor / 2]]))


def rotate(clip: np.ndarray, degrees: float) -> None:
    """Turns the frames about their middle, counter-clockwise."""
    height, width = clip.shape[1:3]
    # Of a turn clockwise: a pixel of the new frame is sought in the old one.
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), -degrees, 1.0)
    _warp(clip, matrix)


def _warp(clip: np.ndarray, matrix: np.ndarray) -> None:
    """Fills each pixel (x, y) from the place `matrix` @ (x, y, 1) of its frame, bilinearly.

    The places, to 1/32 pixel, are computed once for all frames: faster than `cv2.warpAffine`.
    """
    height, width = clip.shape[1:3]
    columns, rows = np.arange(width), np.arange(height)[:, None]
    x, y = ((a * columns + b * rows + c).astype(np.float32) for a, b, c in matrix)
    places, fractions = cv2.convertMaps(x, y, cv2.CV_16SC2)
    before = np.empty_like(clip[0])
    for frame in clip:
        before[:] = frame
        cv2.remap(
            before,
            places,
            fractions,
            cv2.INTER_LINEAR,
            dst=frame,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=(FILL, FILL, FILL),
        )


def translate_x(clip: np.ndarray, share: float) -> None:
    """Moves the frames to the left by a share of their width, in whole pixels.

    Fractions of a pixel would resample the clip without showing anything else.
    """
    pixels, width = round(share * clip.shape[2]), clip.shape[2]
    kept = clip[:, :, max(0, pixels) : width + min(0, pixels)].copy()
    clip[:] = FILL
    clip[:, :, max(0, -pixels) : width - max(0, pixels)] = kept


def translate_y(clip: np.ndarray, share: float) -> None:
    """Moves the frames up by a share of their height, in whole pixels."""
    pixels, height = round(share * clip.shape[1]), clip.shape[1]
    kept = clip[:, max(0, pixels) : height + min(0, pixels)].copy()
    clip[:] = FILL
    clip[:, max(0, -pixels) : height - max(0, pixels)] = kept


# What an operation does to a clip at a strength from -1 to 1. Its sign is the direction, of those
# that have one.
OPERATIONS: Mapping[str, Callable[[np.ndarray, float], None]] = {
    "auto_contrast": lambda clip, strength: photometric.auto_contrast(clip),
    "equalize": lambda clip, strength: photometric.equalize(clip),
    "invert": lambda clip, strength: photometric.invert(clip),
    "rotate": lambda clip, strength: rotate(clip, 30 * strength),
    # A clip of no bits would be black.
    "posterize": lambda clip, strength: photometric.posterize(
        clip, max(1, 4 - int(4 * abs(strength)))
    ),
    "solarize": lambda clip, strength: photometric.solarize(clip, 256 - int(256 * abs(strength))),
    "solarize_add": lambda clip, strength: photometric.solarize_add(clip, int(110 * abs(strength))),
    "color": lambda clip, strength: photometric.saturation(clip, 1 + 0.9 * strength),
    "contrast": lambda clip, strength: photometric.contrast(clip, 1 + 0.9 * strength),
    "brightness": lambda clip, strength: photometric.brightness(clip, 1 + 0.9 * strength),
    "sharpness": lambda clip, strength: photometric.sharpness(clip, 1 + 0.9 * strength),
    "shear_x": lambda clip, strength: shear_x(clip, 0.3 * strength),
    "shear_y": lambda clip, strength: shear_y(clip, 0.3 * strength),
    "translate_x": lambda clip, strength: translate_x(clip, 0.45 * strength),
    "translate_y": lambda clip, strength: translate_y(clip, 0.45 * strength),
}
_OPERATIONS = tuple(OPERATIONS.values())


@dataclass(frozen=True)
class RandAugment:
    """Draws operations for a clip and carries them out, one after another.

    Attributes:
        count: operations that are drawn; one may be drawn twice.
        magnitude: their strength, from 0 to 10.
        prob: probability that an operation that was drawn is carried out. It is 0.5 in timm and
            pytorchvideo, 1 in the paper and mmaction2.
    """

    count: int = 2
    magnitude: float = 9.0
    prob: float = 0.5

    def __call__(self, clip: np.ndarray, rng: np.random.Generator) -> None:
        """Changes a clip in place.

        Args:
            clip: uint8 [n, H, W, 3], contiguous, overwritten.
            rng: draws three numbers for each operation, whatever they say.
        """
        for _ in range(self.count):
            operation = _OPERATIONS[rng.integers(len(_OPERATIONS))]
            done = rng.random() < self.prob
            sign = 1 if rng.random() < 0.5 else -1
            if done:
                operation(clip, sign * self.magnitude / FULL_MAGNITUDE)
