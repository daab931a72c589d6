"""A video that comes as a folder of numbered pictures: how they are named, their order, and the
numbers that are missing.
"""

import itertools
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

PICTURES = frozenset((".jpg", ".jpeg", ".png"))
_NUMBERED = re.compile(r"(.*?)(\d+)(\.\w+)", re.DOTALL)


class FrameNamesError(ValueError):
    """The names in a folder do not say in which order its frames follow."""


@dataclass(frozen=True)
class FrameNames:
    """The frames of a folder.

    Attributes:
        pattern: as "img_%05d.jpg"; "%d" where numbers are not padded.
        files: the names in the order of their numbers.
        first: the first number.
        gaps: the (first, last) numbers of each run that is missing between two files.
    """

    pattern: str
    files: tuple[str, ...]
    first: int
    gaps: tuple[tuple[int, int], ...]

    @property
    def missing(self) -> int:
        """How many numbers are missing."""
        return sum(last - first + 1 for first, last in self.gaps)


def detect(names: Iterable[str]) -> FrameNames:
    """Finds out how a folder's pictures are numbered; other and hidden files are passed over.

    Raises:
        FrameNamesError: if there is no picture, a picture has no number, or there are two kinds of
            names.
    """
    names = list(names)
    pictures = [
        name
        for name in names
        if not name.startswith(".") and "." + name.lower().rpartition(".")[2] in PICTURES
    ]
    if not pictures:
        has = (
            f"it has {sorted(names)[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''}"
            if names
            else "it is empty"
        )
        raise FrameNamesError(f"no .jpg or .png frames in this folder: {has}")
    parts = [_NUMBERED.fullmatch(name) for name in pictures]
    if None in parts:
        raise FrameNamesError(f"no frame number in the name {pictures[parts.index(None)]!r}")
    kinds = Counter((part[1], part[3]) for part in parts)
    if len(kinds) > 1:
        shown = " and ".join(
            f"{prefix}…{suffix} ({count})" for (prefix, suffix), count in kinds.most_common(2)
        )
        raise FrameNamesError(f"two kinds of frame names in this folder: {shown}")
    by_number = {int(part[2]): part[0] for part in parts}
    if len(by_number) < len(parts):
        raise FrameNamesError("two frames of this folder have the same number")
    numbers = sorted(by_number)
    widths = {len(part[2]) for part in parts}
    padded = min(widths) > 1 and (
        len(widths) == 1 or any(part[2].startswith("0") for part in parts)
    )
    digits = (
        f"%0{min(widths)}d" if padded else "%d"
    )  # padded to three digits, numbers may well go on with 1000
    prefix, suffix = next(iter(kinds))
    return FrameNames(
        pattern=f"{prefix}{digits}{suffix}",
        files=tuple(by_number[number] for number in numbers),
        first=numbers[0],
        gaps=tuple((a + 1, b - 1) for a, b in itertools.pairwise(numbers) if b > a + 1),
    )
