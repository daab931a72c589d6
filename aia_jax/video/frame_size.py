"""The size at which frames are stored."""

import re
from dataclasses import dataclass

from aia_jax.errors import UserError

_SMALLEST, _LARGEST = 16, 4096  # pixels


@dataclass(frozen=True)
class FrameSize:
    """The geometry of stored frames: `height` × `width`, or the short side with the proportions
    kept.

    Attributes:
        height: in pixels; 0 if `short_side` rules.
        width: in pixels; 0 if `short_side` rules.
        short_side: in pixels; 0 if height and width are fixed.
    """

    height: int = 0
    width: int = 0
    short_side: int = 0

    @classmethod
    def parse(cls, text: str) -> "FrameSize":
        """Reads "240x320" (height × width) or "short256".

        Raises:
            UserError: for anything else, and for sides under 16 or over 4096 pixels.
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

    def of(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of the stored frames of a video of `height` × `width` pixels."""
        if not self.short_side:
            return self.height, self.width
        long_side = max(1, round(max(height, width) * self.short_side / min(height, width)))
        return (self.short_side, long_side) if height <= width else (long_side, self.short_side)

    def __str__(self) -> str:
        return f"short{self.short_side}" if self.short_side else f"{self.height}x{self.width}"
