"""Views of a video under test: which clips of frames, and which crops of them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aia_jax.data.crops import crop_frames, crop_geometry
from aia_jax.data.flips import flip_pairs
from aia_jax.data.sampling import frame_indices
from aia_jax.data.view_crops import CROPS, view_boxes
from aia_jax.errors import UserError
from aia_jax.frame_geometry import Resize, resize_text, smallest_side

PROTOCOLS = {1: "center", 2: "twice", 10: "dense10"}  # by the number of clips
_MOST_BORDER = 2  # times the frames' shorter side: a larger crop would be black for the most part


@dataclass(frozen=True)
class Views:
    """The clips and crops of a video whose scores are averaged.

    Attributes:
        clips: 1 (the segments' centres), 2 (and their starts) or 10 (dense); see `frame_indices`.
        crops: of each clip: 1 (centre), 3 (left, right and centre), 5 (corners and centre) or 10
            (these five, each followed by its mirror image); see `view_crops`.
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
        if match is None or int(match[1]) not in PROTOCOLS or int(match[2]) not in CROPS:
            clips, crops = (", ".join(map(str, numbers)) for numbers in (PROTOCOLS, CROPS))
            raise UserError(
                f"--views {text}: write CLIPSxCROPS, as 2x3; clips are one of {clips}, crops one "
                f"of {crops}"
            )
        return cls(int(match[1]), int(match[2]))

    @classmethod
    def from_protocol(cls, protocol: str) -> "Views":
        """The views of a recipe's `eval.protocol`: its clips, centre crop."""
        return cls({name: clips for clips, name in PROTOCOLS.items()}[protocol])

    @property
    def mirrored(self) -> bool:
        """Whether every second view is the mirror image of the one before it."""
        return self.crops == 10

    def __len__(self) -> int:
        return self.clips * self.crops

    def __str__(self) -> str:
        return f"{self.clips}x{self.crops}"

    def frames(
        self,
        num_available: int,
        num_frames: int,
        sampling: str = "reference",
        segment_frames: int = 1,
    ) -> np.ndarray:
        """The frames of each clip: int64 [clips, T·S], from 0; arguments as in `frame_indices`."""
        return frame_indices(
            num_available, num_frames, PROTOCOLS[self.clips], None, sampling, segment_frames
        )

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
            inverse: int [clips, T·S], each frame of the clips as an index into `pictures`.
            size: of the network's input, pixels.
            resize: the recipe's `data.resize`, in which crops are computed; empty or None for the
                frames' own size.
            sampling: by which rule crops are taken, see `view_crops`.
            out: where the views go, shaped as what is returned and contiguous; None: a new array.

        Returns:
            uint8 [clips · crops, T·S, size, size, 3]; the crops of a clip follow one another.
        """
        geometry = crop_geometry(pictures[0], resize)
        boxes = view_boxes(self.crops, *geometry, size, sampling)
        clip_shape = inverse.shape[1], size, size, 3
        if out is None:
            out = np.empty((len(self), *clip_shape), np.uint8)
        views = out.reshape(self.clips, self.crops, *clip_shape)
        # Most clips show every frame once and in order: they are cropped into their place.
        in_order = self.clips == 1 and np.array_equal(inverse[0], np.arange(len(pictures)))
        cropped = None if in_order else np.empty((len(pictures), size, size, 3), np.uint8)
        step = 2 if self.mirrored else 1
        for crop, box in zip(range(0, self.crops, step), boxes, strict=True):
            crop_frames(pictures, box, geometry, views[0, crop] if in_order else cropped)
            if not in_order:
                views[:, crop] = cropped[inverse]
            if self.mirrored:
                views[:, crop + 1] = views[:, crop, :, :, ::-1]
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


def mirror_notes(views: Views, class_names: Sequence[str]) -> list[str]:
    """What a user should know of mirrored views of classes that name a side.

    Args:
        views: of each video.
        class_names: of the data, by label.

    Returns:
        A line or none.
    """
    if not views.mirrored:
        return []
    partner = flip_pairs(class_names).partner
    sided = [name for label, name in enumerate(class_names) if partner[label] != label]
    if not sided:
        return []
    return [
        f"half of the {views} views are mirrored, and {len(sided)} classes name a side, such as "
        f"{sided[0]!r}: their mirrored views show another class and count as they are, as in the "
        f"references' code; --views {views.clips}x5 takes the same crops without mirror images"
    ]
