"""Crops: which part of a frame training sees, and the pixels of a part."""

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from aia_jax.frame_geometry import Resize, geometry, with_short_side
from aia_jax.video.resize import Box, resize_box

SCALES = (1.0, 0.875, 0.75, 0.66)

# A crop whose side differs by fewer pixels than this from the network's input takes the input's
# size, and needs no scaling.
_SNAP = 3
_MAX_DISTORT = 1  # how many scales apart a crop's width and height may be

_ASPECTS = (3 / 4, 4 / 3)  # width / height of a random resized crop
_TRIES = 10  # draws of a random resized crop that may not fit in the frame


@lru_cache
def crop_sizes(
    height: int, width: int, size: int, scales: tuple[float, ...] = SCALES
) -> tuple[tuple[int, int], ...]:
    """The (width, height) pairs from which a training crop is drawn, each as likely as the others.

    Sides are the scales times the short side. No crop is larger than the frame (the reference's
    could be, by two pixels, in a frame that is just smaller than the input).

    Args:
        height: of the frame, pixels.
        width: of the frame, pixels.
        size: of the network's input, pixels.
        scales: fractions of the short side.
    """
    sides = [max(1, int(min(height, width) * scale)) for scale in scales]
    sides = [size if abs(side - size) < _SNAP else side for side in sides]
    return tuple(
        (min(crop_width, width), min(crop_height, height))
        for i, crop_height in enumerate(sides)
        for j, crop_width in enumerate(sides)
        if abs(i - j) <= _MAX_DISTORT
    )


def crop_offsets(
    height: int, width: int, crop_width: int, crop_height: int
) -> list[tuple[int, int]]:
    """The 13 top left corners (x, y) of a training crop, each as likely as the others.

    They are points of a 5×5 grid that spans all positions in the frame.
    """
    x_step, y_step = (width - crop_width) // 4, (height - crop_height) // 4
    corners_and_center = [(0, 0), (4, 0), (0, 4), (4, 4), (2, 2)]
    edges = [(0, 2), (4, 2), (2, 4), (2, 0)]
    quarters = [(1, 1), (3, 1), (1, 3), (3, 3)]
    return [
        (column * x_step, row * y_step) for column, row in corners_and_center + edges + quarters
    ]


def draw_crop(
    height: int, width: int, size: int, rng: np.random.Generator, scales: tuple[float, ...] = SCALES
) -> Box:
    """Draws a training crop of a height×width frame for a size×size input."""
    sizes = crop_sizes(height, width, size, scales)
    crop_width, crop_height = sizes[rng.integers(len(sizes))]
    offsets = crop_offsets(height, width, crop_width, crop_height)
    return Box(crop_width, crop_height, *offsets[rng.integers(len(offsets))])


def draw_jittered_crop(
    height: int, width: int, size: int, rng: np.random.Generator, short_sides: Sequence[int]
) -> tuple[tuple[int, int], Box]:
    """Draws a size for the whole frame, and a crop of the input's size in it.

    It is how SlowFast and the video transformers train (Feichtenhofer et al. 2019, Sec. 4): the
    short side is a whole number between two, and every position of the crop is as likely as any
    other.

    Args:
        height: of the frame, pixels.
        width: of the frame, pixels.
        size: of the network's input, pixels, at most the least short side.
        rng: draws the short side, x and y.
        short_sides: the least and the greatest, pixels.

    Returns:
        The (height, width) of the frame, and the crop in it.
    """
    least, greatest = short_sides
    height, width = with_short_side(height, width, int(rng.integers(least, greatest + 1)))
    x, y = (int(rng.integers(side - size + 1)) for side in (width, height))
    return (height, width), Box(size, size, x, y)


def draw_resized_crop(
    height: int, width: int, rng: np.random.Generator, shares: Sequence[float]
) -> Box:
    """Draws Inception's random resized crop (Szegedy et al. 2015, Sec. 6), as torchvision has it.

    The area is drawn evenly, the aspect evenly in its logarithm. If ten draws do not fit in the
    frame, the crop is the largest one in its middle at an allowed aspect.

    Args:
        height: of the frame, pixels.
        width: of the frame, pixels.
        rng: draws area, aspect, x and y.
        shares: the least and the greatest area, as shares of the frame's.
    """
    least, greatest = _ASPECTS
    for _ in range(_TRIES):
        area = height * width * rng.uniform(*shares)
        aspect = math.exp(rng.uniform(math.log(least), math.log(greatest)))
        crop_width, crop_height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < crop_width <= width and 0 < crop_height <= height:
            x, y = rng.integers(width - crop_width + 1), rng.integers(height - crop_height + 1)
            return Box(crop_width, crop_height, int(x), int(y))
    crop_width = min(width, max(1, round(height * greatest)))
    crop_height = min(height, max(1, round(width / least)))
    return Box(crop_width, crop_height, (width - crop_width) // 2, (height - crop_height) // 2)


def crop_geometry(frame: np.ndarray, resize: Resize) -> tuple[int, int]:
    """The (height, width) in which crops of a frame, uint8 [H, W, 3], are computed.

    Args:
        frame: as it is stored.
        resize: the recipe's `data.resize`; None or empty for the frame's own size.
    """
    return geometry(*frame.shape[:2], resize)


def crop_frames(
    frames: Sequence[np.ndarray],
    box: Box,
    geometry: tuple[int, int],
    out: np.ndarray,
    mirror: bool = False,
) -> None:
    """Fills `out` with the pixels of `box`, resized to `out`'s height and width.

    The recipe resizes a frame to `geometry`, crops, and resizes the crop. Here the box is mapped
    back to the frame as it is stored instead, so that pixels are resampled once. They are not
    resampled at all if a stored frame has the recipe's size and the crop has the input's.

    Args:
        frames: uint8 [H, W, 3] each, all of one size.
        box: in pixels of a frame of size `geometry`. One that hangs over its edges has the size of
            `out`, and is black there.
        geometry: (height, width) of the recipe.
        out: uint8 [len(frames), size, size, 3], overwritten.
        mirror: whether left and right change sides.
    """
    inside = _intersect(box, geometry)
    if inside != box:
        out[:] = 0
        x, y = inside.x - box.x, inside.y - box.y
        if mirror:
            x = box.width - x - inside.width
        box, out = inside, out[:, y : y + inside.height, x : x + inside.width]
    height, width = frames[0].shape[:2]
    scale_y, scale_x = height / geometry[0], width / geometry[1]
    if (scale_y, scale_x) != (1.0, 1.0):
        box = Box(box.width * scale_x, box.height * scale_y, box.x * scale_x, box.y * scale_y)
    resize_box(frames, box, out, mirror)


def _intersect(box: Box, geometry: tuple[int, int]) -> Box:
    """The part of a box that lies in a frame of (height, width) `geometry`."""
    left, top = max(0, box.x), max(0, box.y)
    right, bottom = min(geometry[1], box.x + box.width), min(geometry[0], box.y + box.height)
    return Box(right - left, bottom - top, left, top)
