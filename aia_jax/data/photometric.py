"""Changes of the colours of a clip, in place, the same for all its frames.

Each agrees with Pillow's operation of that name on the clip as one tall picture, frames below each
other; where Pillow cuts fractions off, some of these round, which is a level more. So what is
measured in a picture (its mean, its histogram) is measured in the clip: light that changes from
frame to frame still does afterwards, and nothing flickers that did not before.

All clips are uint8 [n, H, W, 3] (RGB), contiguous, and overwritten.
"""

import cv2
import numpy as np

_LUMA = np.array((0.299, 0.587, 0.114))  # ITU-R 601, of red, green and blue
_LEVELS = np.arange(256)


def brightness(clip: np.ndarray, factor: float) -> None:
    """Multiplies all values; 0 is black, 1 leaves them."""
    _scale(clip, factor, 0.0)


def contrast(clip: np.ndarray, factor: float) -> None:
    """Multiplies the distance of all values from the clip's mean luma; 1 leaves them."""
    _scale(clip, factor, (1 - factor) * (_LUMA @ cv2.mean(_tall(clip))[:3]))


def saturation(clip: np.ndarray, factor: float) -> None:
    """Multiplies each pixel's distance from its luma; 0 is grey, 1 leaves it."""
    pixels = _tall(clip)
    mix = factor * np.eye(3) + (1 - factor) * _LUMA
    cv2.transform(pixels, mix, dst=pixels)


def hue(clip: np.ndarray, turn: float) -> None:
    """Turns the hue of all pixels by a share of its circle, from -0.5 to 0.5."""
    steps = np.uint8(round(turn * 256) % 256)
    if not steps:  # the way to HSV and back would round most pixels to others
        return
    pixels = _tall(clip)
    turned = cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV_FULL)
    turned[..., 0] += steps
    cv2.cvtColor(turned, cv2.COLOR_HSV2RGB_FULL, dst=pixels)


def sharpness(clip: np.ndarray, factor: float) -> None:
    """Multiplies each pixel's distance from the smoothed frame; 0 is smooth, 1 leaves it.

    The smoothed frame is that of the kernel [1 1 1; 1 5 1; 1 1 1] / 13. A frame's outermost pixels
    stay as they are.
    """
    kernel = np.full((3, 3), (1 - factor) / 13)
    kernel[1, 1] = factor + (1 - factor) * 5 / 13
    filtered = cv2.filter2D(_tall(clip), -1, kernel).reshape(clip.shape)
    clip[:, 1:-1, 1:-1] = filtered[:, 1:-1, 1:-1]


def auto_contrast(clip: np.ndarray) -> None:
    """Stretches each channel, so that its least value becomes 0 and its greatest 255."""
    _look_up(clip, *map(_stretch, _histograms(clip)))


def equalize(clip: np.ndarray) -> None:
    """Gives the values of each channel about equal frequencies."""
    _look_up(clip, *map(_equalizer, _histograms(clip)))


def _histograms(clip: np.ndarray) -> list[np.ndarray]:
    """How often each value occurs, int64 [256] for each channel."""
    return [
        cv2.calcHist([_tall(clip)], [channel], None, [256], [0, 256]).ravel().astype(np.int64)
        for channel in range(3)
    ]


def _stretch(histogram: np.ndarray) -> np.ndarray:
    """The new value of each old one, from the least to the greatest of a channel, [256]."""
    least, greatest = np.flatnonzero(histogram)[[0, -1]]
    return (_LEVELS - least) * (255 / (greatest - least)) if least < greatest else _LEVELS


def _equalizer(histogram: np.ndarray) -> np.ndarray:
    """The new value of each old one, by Pillow's rounding, int [256]."""
    last = histogram[np.flatnonzero(histogram)[-1]]
    step = (histogram.sum() - last) // 255
    if step == 0:  # too few values to spread
        return _LEVELS
    return (step // 2 + np.cumsum(histogram) - histogram) // step


def invert(clip: np.ndarray) -> None:
    """Replaces every value by 255 minus it."""
    pixels = _tall(clip)
    cv2.bitwise_not(pixels, dst=pixels)


def posterize(clip: np.ndarray, bits: int) -> None:
    """Keeps the highest bits of every value, from 1 to 8 of them."""
    np.bitwise_and(clip, 256 - (1 << 8 - bits), out=clip)


def solarize(clip: np.ndarray, threshold: int) -> None:
    """Inverts the values from a threshold on."""
    _look_up(clip, np.where(threshold <= _LEVELS, 255 - _LEVELS, _LEVELS))


def solarize_add(clip: np.ndarray, amount: int) -> None:
    """Adds to the values below 128."""
    _look_up(clip, np.where(_LEVELS < 128, _LEVELS + amount, _LEVELS))


def _tall(clip: np.ndarray) -> np.ndarray:
    """The clip's memory as one picture, its frames below each other: [n·H, W, 3]."""
    if not clip.flags.c_contiguous:
        raise ValueError("a clip that is changed in place must be contiguous")
    return clip.reshape(-1, *clip.shape[2:])


def _scale(clip: np.ndarray, factor: float, offset: float) -> None:
    """Multiplies all values by a factor and adds an offset."""
    pixels = _tall(clip)
    cv2.addWeighted(pixels, factor, pixels, 0.0, offset, dst=pixels)


def _look_up(clip: np.ndarray, *tables: np.ndarray) -> None:
    """Replaces each value by its entry in a table, numbers [256], rounded down to uint8.

    Args:
        clip: uint8 [n, H, W, 3].
        tables: one for all channels, or one for each.
    """
    pixels = _tall(clip)
    table = np.clip(np.stack(tables, axis=-1), 0, 255).astype(np.uint8)
    cv2.LUT(pixels, table[None] if len(tables) > 1 else table, dst=pixels)
