"""Views of a video under test: which clips of frames, and which crops of them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aia_jax.data.augment import center_crop, crop_frames, crop_geometry, three_crops
from aia_jax.data.sampling import frame_indices
from aia_jax.errors import UserError

PROTOCOLS = {1: "center", 2: "twice", 10: "dense10"}  # by the number of clips
_CROPS = (1, 3)


@dataclass(frozen=True)
class Views:
    """The clips and crops of a video whose logits are averaged (before softmax, as the reference).

    Attributes:
        clips: 1 (the segments' centres), 2 (and their starts) or 10 (dense).
        crops: of each clip: 1 (centre) or 3 (left, right, centre; for a frame that is higher than
            wide, top, bottom, centre).
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

    def frames(self, num_available: int, num_frames: int) -> np.ndarray:
        """The frames of each clip: int64 [clips, T], from 0."""
        return frame_indices(num_available, num_frames, PROTOCOLS[self.clips])

    def crop_frames(
        self,
        pictures: Sequence[np.ndarray],
        inverse: np.ndarray,
        size: int,
        resize: Sequence[int] | None,
    ) -> np.ndarray:
        """Makes all views of a video from its frames.

        Args:
            pictures: uint8 [H, W, 3] each, the distinct frames of all clips.
            inverse: int [clips, T], each frame of the clips as an index into `pictures`.
            size: of the network's input, pixels.
            resize: the recipe's (height, width) in which crops are computed; empty or None for the
                frames' own.

        Returns:
            uint8 [clips · crops, T, size, size, 3]; the crops of a clip follow one another.
        """
        geometry = crop_geometry(pictures[0], resize)
        boxes = three_crops(*geometry, size) if self.crops == 3 else (center_crop(*geometry, size),)
        views = np.empty((self.clips, self.crops, inverse.shape[1], size, size, 3), np.uint8)
        cropped = np.empty((len(pictures), size, size, 3), np.uint8)
        for crop, box in enumerate(boxes):
            crop_frames(pictures, box, geometry, cropped)
            views[:, crop] = cropped[inverse]
        return views.reshape(-1, *views.shape[2:])
