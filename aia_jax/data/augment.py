"""Crops and flips: the reference's training crops, a crop's pixels, and labels under a flip."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from aia_jax.data.sampling import frame_indices, short_video_notes
from aia_jax.frame_geometry import Resize, geometry, with_short_side
from aia_jax.video.resize import Box, resize_box

SCALES = (1.0, 0.875, 0.75, 0.66)

# A crop whose side differs by fewer pixels than this from the network's input takes the input's
# size, and needs no scaling.
_SNAP = 3
_MAX_DISTORT = 1  # how many scales apart a crop's width and height may be

# "left" or "right" as a word. Between letters it is part of another word, as in "upright".
_SIDE = re.compile(r"(?<![^\W\d_])(left|right)(?![^\W\d_])", re.IGNORECASE)


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


@dataclass(frozen=True, eq=False)
class FlipRule:
    """The label that a video has after it is mirrored.

    Attributes:
        partner: int64 [classes], the label after a flip, by label. It is the class itself if the
            class's name has no side, and -1 if the name has a side but no other class has the
            opposite one: videos of such a class are never flipped.
    """

    partner: np.ndarray

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """The labels that a flip swaps, each pair once, the smaller label first."""
        return [(k, int(other)) for k, other in enumerate(self.partner) if other > k]


def flip_pairs(class_names: Sequence[str]) -> FlipRule:
    """Derives from the class names which labels a horizontal flip swaps.

    "… from left to right" and "… from right to left" are such a pair. Only whole words count, in
    upper or lower case: "upright" names no side, "move_left" does.
    """
    labels_by_name: dict[str, list[int]] = {}
    for label, name in enumerate(class_names):
        labels_by_name.setdefault(_normalize_name(name), []).append(label)
    partner = np.arange(len(class_names))
    for label, name in enumerate(class_names):
        if _SIDE.search(name):
            mirrored = labels_by_name.get(_normalize_name(_SIDE.sub(_opposite_side, name)), [])
            unique = len(mirrored) == 1 and len(labels_by_name[_normalize_name(name)]) == 1
            partner[label] = mirrored[0] if unique else -1
    return FlipRule(partner)


def _opposite_side(word: re.Match) -> str:
    return "left" if word[0].lower() == "right" else "right"


def _normalize_name(name: str) -> str:
    return " ".join(name.casefold().split())


@dataclass(frozen=True, eq=False)
class TrainTransform:
    """The random choices of training for one video.

    They are its frames, one crop for all of them, and a flip that may change the label.

    Attributes:
        num_frames: segments of a clip (T).
        size: the clip's height and width, pixels.
        partner: int [classes], the label after a flip, as `FlipRule.partner`.
        resize: the recipe's `data.resize`, in which crops are computed; None for the stored frames'
            own size.
        scales: of the multi-scale crop.
        flip: probability of a flip.
        sampling: by which rule frames are drawn, see `frame_indices`.
        segment_frames: consecutive frames of a segment (S).
        short_side: instead of the multi-scale crop, the least and the greatest short side of
            `draw_jittered_crop`; (): the multi-scale crop.
    """

    num_frames: int
    size: int
    partner: np.ndarray
    resize: Resize = (240, 320)
    scales: tuple[float, ...] = SCALES
    flip: float = 0.5
    sampling: str = "reference"
    segment_frames: int = 1
    short_side: tuple[int, ...] = ()

    @property
    def clip_shape(self) -> tuple[int, int, int, int]:
        """Of a clip: (T·S, size, size, 3)."""
        return self.num_frames * self.segment_frames, self.size, self.size, 3

    def draw_frames(self, num_available: int, rng: np.random.Generator) -> np.ndarray:
        """Draws the frames of the clip: int64 [T·S], from 0."""
        return frame_indices(
            num_available, self.num_frames, "random", rng, self.sampling, self.segment_frames
        )[0]

    def short_video_notes(self, lengths: np.ndarray, split: str) -> list[str]:
        """What a user should know about the short videos of a split; see `sampling`."""
        return short_video_notes(
            lengths, self.num_frames, "random", self.sampling, split, self.segment_frames
        )

    def __call__(
        self, frames: Sequence[np.ndarray], label: int, rng: np.random.Generator, out: np.ndarray
    ) -> int:
        """Fills `out` with the cropped frames and returns the label that goes with them.

        Args:
            frames: uint8 [H, W, 3] each, all of one size.
            label: of the video.
            rng: draws the crop and the flip.
            out: uint8 [len(frames), size, size, 3], overwritten.
        """
        geometry = crop_geometry(frames[0], self.resize)
        if self.short_side:
            geometry, box = draw_jittered_crop(*geometry, self.size, rng, self.short_side)
        else:
            box = draw_crop(*geometry, self.size, rng, self.scales)
        flipped_label = int(self.partner[label])
        mirror = rng.random() < self.flip and flipped_label >= 0
        crop_frames(frames, box, geometry, out, mirror)
        return flipped_label if mirror else label
