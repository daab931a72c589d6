"""How frames are stored: their size in pixels and the quality of their JPEGs."""

import re
from dataclasses import dataclass

from aia_jax.errors import UserError

DEFAULT_QUALITY = 90  # of JPEGs, where the user gives none
_SMALLEST, _LARGEST = 16, 4096  # pixels


@dataclass(frozen=True)
class FrameSize:
    """The size of stored frames: a fixed height × width, or a short side with kept proportions.

    Attributes:
        height: in pixels; 0 if `short_side` is set.
        width: in pixels; 0 if `short_side` is set.
        short_side: in pixels; 0 if height and width are fixed.
    """

    height: int = 0
    width: int = 0
    short_side: int = 0

    @classmethod
    def parse(cls, text: str) -> "FrameSize":
        """Reads "240x320" (height × width) or "short256".

        Raises:
            UserError: for any other text, and for sides under 16 or over 4096 pixels.
        """
        if fixed := re.fullmatch(r"(\d+)[x×](\d+)", text):
            size = cls(height=int(fixed[1]), width=int(fixed[2]))
            sides = (size.height, size.width)
        elif short := re.fullmatch(r"short(\d+)", text):
            size = cls(short_side=int(short[1]))
            sides = (size.short_side,)
        else:
            raise UserError(
                f"--size {text}: write HEIGHTxWIDTH, as 240x320, or shortN for a short side of N "
                "pixels, as short256"
            )
        if min(sides) < _SMALLEST or max(sides) > _LARGEST:
            raise UserError(f"--size {text}: sides are {_SMALLEST} to {_LARGEST} pixels")
        return size

    def stored_shape(self, height: int, width: int) -> tuple[int, int]:
        """The (height, width) of the stored frames of a video of `height` × `width` pixels."""
        if not self.short_side:
            return self.height, self.width
        long_side = max(1, round(max(height, width) * self.short_side / min(height, width)))
        return (self.short_side, long_side) if height <= width else (long_side, self.short_side)

    def __str__(self) -> str:
        return f"short{self.short_side}" if self.short_side else f"{self.height}x{self.width}"


@dataclass(frozen=True)
class FrameFormat:
    """How the frames of a data set are stored.

    Attributes:
        size: of the frames.
        quality: of the JPEGs, 1 to 100.
        frame_names: the pictures that are the frames of a folder or archive, as in
            `detect_frame_names`; "": found by looking.
    """

    size: FrameSize
    quality: int = DEFAULT_QUALITY
    frame_names: str = ""
