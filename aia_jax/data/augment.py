"""The random choices of training for one video: frames, crop, flip, and changes of the clip."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aia_jax.data.clip_changes import ClipChange
from aia_jax.data.crops import (
    SCALES,
    crop_frames,
    crop_geometry,
    draw_crop,
    draw_jittered_crop,
    draw_resized_crop,
)
from aia_jax.data.flips import mirror_label
from aia_jax.data.sampling import frame_indices, short_video_notes
from aia_jax.frame_geometry import Resize


@dataclass(frozen=True, eq=False)
class TrainTransform:
    """The random choices of training for one video.

    They are its frames, one crop for all of them, a flip that may change the label, and what else
    is changed in the clip. A choice that a recipe does not have draws no random numbers.

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
        resized_crop: instead of it, the least and the greatest share of the frame's area of
            `draw_resized_crop`; ().
        changes: of the cropped and flipped clip, one after another, as `clip_changes`.
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
    resized_crop: tuple[float, ...] = ()
    changes: tuple[ClipChange, ...] = ()

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
        self,
        frames: Sequence[np.ndarray],
        label: int | np.ndarray,
        rng: np.random.Generator,
        out: np.ndarray,
    ) -> int | np.ndarray:
        """Fills `out` with the cropped frames and returns the label that goes with them.

        Args:
            frames: uint8 [H, W, 3] each, all of one size.
            label: of the video; multi-hot [classes] where a video has several.
            rng: draws the crop, the flip, and what the changes draw.
            out: uint8 [len(frames), size, size, 3], contiguous, overwritten.
        """
        geometry = crop_geometry(frames[0], self.resize)
        if self.short_side:
            geometry, box = draw_jittered_crop(*geometry, self.size, rng, self.short_side)
        elif self.resized_crop:
            box = draw_resized_crop(*geometry, rng, self.resized_crop)
        else:
            box = draw_crop(*geometry, self.size, rng, self.scales)
        flipped_label = mirror_label(label, self.partner)
        mirror = rng.random() < self.flip and flipped_label is not None
        crop_frames(frames, box, geometry, out, mirror)
        for change in self.changes:
            change(out, rng)
        return flipped_label if mirror else label
