"""Views of a video under test: which clips of frames, and which crops of them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aia_jax.data.augment import center_crop, crop_frames, crop_geometry, three_crops
from aia_jax.data.sampling import frame_indices
from aia_jax.errors import UserError
from aia_jax.frame_geometry import Resize, resize_text, smallest_side

PROTOCOLS = {1: "center", 2: "twice", 10: "dense10"}  # by the number of clips
_CROPS = (1, 3)
_MOST_BORDER = 2  # times the frames' shorter side: a larger crop would be black for the most part


@dataclass(frozen=True)
class Views:
    """The clips and crops of a video whose scores are averaged.

    Attributes:
        clips: 1 (the segments' centres), 2 (and their starts) or 10 (dense).
        crops: of each clip: 1 (centre) or 3 (left, right, centre; see `three_crops`).
    """

    clips: int = 1
    crops: int = 1

    @classmethod
    def parse(cls, text: str) -> "Views":
        """Reads "2x3": clips × crops.

        Raises:
            UserError: for anything else, and for numbers that no test protocol has.
        """
        match = re.fullmatch(r"(\d+)[x×](\d+)", text)
        if match is None or int(match[1]) not in PROTOCOLS or int(match[2]) not in _CROPS:
            clips, crops = (", ".join(map(str, numbers)) for numbers in (PROTOCOLS, _CROPS))
            raise UserError(
                f"--views {text}: write CLIPSxCROPS, as 2x3; clips are one of {clips}, crops one "
                f"of {crops}"
            )
        return cls(int(match[1]), int(match[2]))

    @classmethod
    def from_protocol(cls, protocol: str) -> "Views":
        """The views of a recipe's `eval.protocol`: its clips, centre crop."""
        return cls({name: clips for clips, name in PROTOCOLS.items()}[protocol])

    def __len__(self) -> int:
        return self.clips * self.crops

    def __str__(self) -> str:
        return f"{self.clips}x{self.crops}"

    def frames(
        self, num_available: int, num_frames: int, sampling: str = "reference"
    ) -> np.ndarray:
        """The frames of each clip: int64 [clips, T], from 0; `sampling` as in `frame_indices`."""
        return frame_indices(num_available, num_frames, PROTOCOLS[self.clips], sampling=sampling)

    def crop_frames(
        self,
        pictures: Sequence[np.ndarray],
        inverse: np.ndarray,
        size: int,
        resize: Resize,
        sampling: str = "reference",
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        """Makes all views of a video from its frames.

        Args:
            pictures: uint8 [H, W, 3] each, the distinct frames of all clips.
            inverse: int [clips, T], each frame of the clips as an index into `pictures`.
            size: of the network's input, pixels.
            resize: the recipe's `data.resize`, in which crops are computed; empty or None for the
                frames' own size.
            sampling: by which rule three crops are taken, see `three_crops`.
            out: where the views go, shaped as what is returned and contiguous; None: a new array.

        Returns:
            uint8 [clips · crops, T, size, size, 3]; the crops of a clip follow one another.
        """
        geometry = crop_geometry(pictures[0], resize)
        boxes = (
            three_crops(*geometry, size, sampling)
            if self.crops == 3
            else (center_crop(*geometry, size),)
        )
        clip_shape = inverse.shape[1], size, size, 3
        if out is None:
            out = np.empty((len(self), *clip_shape), np.uint8)
        views = out.reshape(self.clips, self.crops, *clip_shape)
        # Most clips show every frame once and in order: they are cropped into their place.
        in_order = self.clips == 1 and np.array_equal(inverse[0], np.arange(len(pictures)))
        cropped = None if in_order else np.empty((len(pictures), size, size, 3), np.uint8)
        for crop, box in enumerate(boxes):
            crop_frames(pictures, box, geometry, views[0, crop] if in_order else cropped)
            if not in_order:
                views[:, crop] = cropped[inverse]
        return out


ONE_VIEW = Views()


def check_crop(text: str | None, usual: int, resize: Sequence[int] | str) -> tuple[int, list[str]]:
    """Reads the side of the test's crops.

    Args:
        text: from the command line; None for the usual one.
        usual: the config's `data.crop`.
        resize: the config's `data.resize`.

    Returns:
        The side in pixels, and a note for the user if it is larger than the frames.

    Raises:
        UserError: it is no side that a crop may have.
    """
    if text is None:
        return usual, []
    side, frames = smallest_side(resize), resize_text(resize)
    crop = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
    if not 1 <= crop <= _MOST_BORDER * side:
        raise UserError(
            f"--crop {text}: write a side in pixels, from 1 to {_MOST_BORDER * side} for frames of "
            f"{frames} (data.resize)"
        )
    if crop <= side:
        return crop, []
    return crop, [f"crops of {crop} pixels hang over frames of {frames}: black there"]
