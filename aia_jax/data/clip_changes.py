"""What else training changes in a clip once it is cropped and flipped, each drawn for the clip.

The order is that of torchvision's and timm's recipes: colour jitter, RandAugment, random erasing.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from ml_collections import ConfigDict

from aia_jax.data import photometric
from aia_jax.data.rand_augment import RandAugment

# Changes a clip, uint8 [n, H, W, 3], in place; the generator is the row's.
ClipChange = Callable[[np.ndarray, np.random.Generator], None]

_ERASED_SHARES = (0.02, 1 / 3)  # of the frame's area; timm's and torchvision's
_ERASED_ASPECTS = (0.3, 1 / 0.3)  # height / width
_TRIES = 10  # draws of a box that may not fit in the frame


def clip_changes(data: ConfigDict) -> tuple[ClipChange, ...]:
    """The changes that a recipe asks for, in their order.

    Args:
        data: the recipe's section of that name.
    """
    changes: list[ClipChange] = []
    if data.color_jitter_prob and any(data.color_jitter):
        changes.append(ColorJitter(*data.color_jitter, data.color_jitter_prob))
    if data.randaugment:
        changes.append(
            RandAugment(data.randaugment, data.randaugment_magnitude, data.randaugment_prob)
        )
    if data.erase:
        changes.append(RandomErasing(data.erase))
    return tuple(changes)


@dataclass(frozen=True)
class ColorJitter:
    """Changes brightness, contrast, saturation and hue, in a random order, as torchvision does.

    Attributes:
        brightness: the largest change of the factor 1, a share.
        contrast: likewise.
        saturation: likewise.
        hue: the largest turn, a share of the circle up to 0.5.
        prob: probability that a clip is changed.
    """

    brightness: float
    contrast: float
    saturation: float
    hue: float
    prob: float = 1.0

    def __call__(self, clip: np.ndarray, rng: np.random.Generator) -> None:
        """Changes a clip, uint8 [n, H, W, 3], contiguous, in place."""
        if rng.random() >= self.prob:
            return
        order = rng.permutation(4)
        factors = [
            rng.uniform(max(0.0, 1 - change), 1 + change)
            for change in (self.brightness, self.contrast, self.saturation)
        ]
        turn = rng.uniform(-self.hue, self.hue)
        changes = (
            (photometric.brightness, self.brightness, factors[0]),
            (photometric.contrast, self.contrast, factors[1]),
            (photometric.saturation, self.saturation, factors[2]),
            (photometric.hue, self.hue, turn),
        )
        for change, largest, value in (changes[number] for number in order):
            if largest:
                change(clip, value)


@dataclass(frozen=True)
class RandomErasing:
    """Replaces a box, the same in all frames, by noise (Zhong et al. 2020, arXiv 1708.04896).

    Every value in it is one of 0 to 255, all equally likely and drawn for each frame.

    Attributes:
        prob: probability that a clip is changed.
    """

    prob: float

    def __call__(self, clip: np.ndarray, rng: np.random.Generator) -> None:
        """Changes a clip, uint8 [n, H, W, 3], in place."""
        if rng.random() >= self.prob:
            return
        frames, height, width, channels = clip.shape
        least, greatest = _ERASED_ASPECTS
        for _ in range(_TRIES):
            area = height * width * rng.uniform(*_ERASED_SHARES)
            aspect = math.exp(rng.uniform(math.log(least), math.log(greatest)))
            box_height, box_width = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if 0 < box_height < height and 0 < box_width < width:
                break
        else:
            return
        y = int(rng.integers(height - box_height + 1))
        x = int(rng.integers(width - box_width + 1))
        noise = rng.bytes(frames * box_height * box_width * channels)
        clip[:, y : y + box_height, x : x + box_width] = np.frombuffer(noise, np.uint8).reshape(
            frames, box_height, box_width, channels
        )
