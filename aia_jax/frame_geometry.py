"""The size of the frames in which crops are computed: the config's `data.resize`.

It is (height, width), or a text such as "short256": a short side, proportions kept.
"""

import re
from collections.abc import Sequence

Resize = Sequence[int] | str | None  # None or empty: the frames' own size

_SHORT = re.compile(r"short([1-9]\d{0,4})")


def short_side(resize: Resize) -> int | None:
    """The pixels of a text such as "short256"; None for anything else."""
    match = _SHORT.fullmatch(resize) if isinstance(resize, str) else None
    return int(match[1]) if match else None


def smallest_side(resize: Sequence[int] | str) -> int:
    """The shorter side of the frames after the resize, pixels."""
    return short_side(resize) or min(resize)


def geometry(height: int, width: int, resize: Resize) -> tuple[int, int]:
    """The (height, width) of a frame of `height` × `width` pixels after the resize."""
    if not resize:
        return height, width
    short = short_side(resize)
    if short is None:
        return resize[0], resize[1]
    return with_short_side(height, width, short)


def with_short_side(height: int, width: int, short: int) -> tuple[int, int]:
    """The (height, width) of a frame whose shorter side becomes `short` pixels.

    The long side is rounded down, as torchvision's `Resize(256)` does.
    """
    long = short * max(height, width) // min(height, width)
    return (short, long) if height <= width else (long, short)


def resize_text(resize: Resize) -> str:
    """As prepare_data.py writes it: "240x320" (height × width), "short256"; "" for none."""
    if not resize or isinstance(resize, str):
        return resize or ""
    return "x".join(map(str, resize))


def is_at_size(height: int, width: int, resize: Resize) -> bool:
    """Whether a frame has the size of the resize already."""
    return geometry(height, width, resize) == (height, width)
