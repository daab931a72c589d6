"""Where a clip is cut from its frames, and when it is mirrored: the reference's training crops and
the test crops.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from aia_jax.data.sampling import frame_indices
from aia_jax.video.resize import Box, resize_box

SCALES = (1.0, 0.875, 0.75, 0.66)

# a crop closer than this many pixels to the network's input takes its size, and needs no scaling
_SNAP = 3
_MAX_DISTORT = 1  # how many scales apart a crop's width and height may be


@lru_cache
def crop_sizes(
    height: int, width: int, size: int, scales: tuple[float, ...] = SCALES
) -> tuple[tuple[int, int], ...]:
    """The (width, height) pairs that a training crop of a height×width frame is drawn from, each as
    likely as the others.

    Sides are the scales times the short side. No crop is larger than the frame (the reference's
    could be, by two pixels, in a frame that is just smaller than the input).

    Args:
        height: of the frame, pixels.
        width: of the frame, pixels.
        size: of the network's input, pixels.
        scales: shares of the short side.
    """
    sides = [max(1, int(min(height, width) * scale)) for scale in scales]
    sides = [size if abs(side - size) < _SNAP else side for side in sides]
    return tuple(
        (min(across, width), min(down, height))
        for i, down in enumerate(sides)
        for j, across in enumerate(sides)
        if abs(i - j) <= _MAX_DISTORT
    )


def crop_offsets(
    height: int, width: int, crop_width: int, crop_height: int
) -> list[tuple[int, int]]:
    """The 13 corners (x, y) of a training crop, each as likely as the others: points of a 5×5 grid
    with quarter steps.
    """
    x, y = (width - crop_width) // 4, (height - crop_height) // 4
    corners_and_center = [(0, 0), (4, 0), (0, 4), (4, 4), (2, 2)]
    edges = [(0, 2), (4, 2), (2, 4), (2, 0)]
    quarters = [(1, 1), (3, 1), (1, 3), (3, 3)]
    return [(column * x, row * y) for column, row in corners_and_center + edges + quarters]


def draw_crop(
    height: int, width: int, size: int, rng: np.random.Generator, scales: tuple[float, ...] = SCALES
) -> Box:
    """Draws a training crop of a height×width frame for a size×size input."""
    sizes = crop_sizes(height, width, size, scales)
    crop_width, crop_height = sizes[rng.integers(len(sizes))]
    offsets = crop_offsets(height, width, crop_width, crop_height)
    return Box(crop_width, crop_height, *offsets[rng.integers(len(offsets))])


def center_crop(height: int, width: int, size: int) -> Box:
    """The test crop: size×size from the middle; the largest square there in a frame that is
    smaller, which is then enlarged.
    """
    side = min(size, height, width)
    return Box(side, side, (width - side) // 2, (height - side) // 2)


def three_crops(height: int, width: int, size: int) -> tuple[Box, Box, Box]:
    """The three test crops along the longer side: left (or top), right (or bottom), centre; squares
    as `center_crop`'s.
    """
    center = center_crop(height, width, size)
    if width >= height:
        return center._replace(x=0), center._replace(x=width - center.width), center
    return center._replace(y=0), center._replace(y=height - center.height), center


def recipe_geometry(frame: np.ndarray, resize: Sequence[int] | None) -> tuple[int, int]:
    """The (height, width) in which crops of a frame are computed: the recipe's `resize`, or the
    frame's own where that is None or empty.
    """
    return (resize[0], resize[1]) if resize else frame.shape[:2]


def cut(
    frames: Sequence[np.ndarray],
    box: Box,
    geometry: tuple[int, int],
    out: np.ndarray,
    mirror: bool = False,
) -> None:
    """Fills `out` with a box that was computed in the recipe's geometry.

    The recipe resizes a frame to `geometry`, crops, and resizes the crop. Here the box goes back to
    the frame as it is stored, so that pixels are resampled once, and not at all where a stored
    frame has the recipe's size and the crop that of the input.

    Args:
        frames: uint8 ``[H, W, 3]`` each, all of one size.
        box: in pixels of a frame of size `geometry`.
        geometry: (height, width) of the recipe.
        out: uint8 ``[len(frames), size, size, 3]``, overwritten.
        mirror: whether left and right change places.
    """
    height, width = frames[0].shape[:2]
    down, across = height / geometry[0], width / geometry[1]
    if (down, across) != (1.0, 1.0):
        box = Box(box.width * across, box.height * down, box.x * across, box.y * down)
    resize_box(frames, box, out, mirror)


@dataclass(frozen=True, eq=False)
class TrainTransform:
    """The random choices of training for one video: frames, one crop for all of them, and a flip
    with its label.

    Attributes:
        num_frames: frames of a clip (T).
        size: the clip's height and width, pixels.
        partner: int ``[classes]``, the label after a flip; -1 for a class that must not be flipped.
        resize: (height, width) in which crops are computed; None for the stored frames' own.
        scales: of the multi-scale crop.
        flip: probability.
    """

    num_frames: int
    size: int
    partner: np.ndarray
    resize: Sequence[int] | None = (240, 320)
    scales: tuple[float, ...] = SCALES
    flip: float = 0.5

    def draw_frames(self, num_available: int, rng: np.random.Generator) -> np.ndarray:
        """int64 [T], the frames of the clip."""
        return frame_indices(num_available, self.num_frames, "random", rng)[0]

    def __call__(
        self, frames: Sequence[np.ndarray], label: int, rng: np.random.Generator, out: np.ndarray
    ) -> int:
        """Fills `out` uint8 [len(frames), size, size, 3] and returns the label that goes with it."""
        geometry = recipe_geometry(frames[0], self.resize)
        box = draw_crop(*geometry, self.size, rng, self.scales)
        mirrored = int(self.partner[label])
        mirror = rng.random() < self.flip and mirrored >= 0
        cut(frames, box, geometry, out, mirror)
        return mirrored if mirror else label
