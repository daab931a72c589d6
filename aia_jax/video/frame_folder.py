"""The names of a folder's numbered pictures: their pattern, their order and the missing numbers."""

import fnmatch
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

WITHOUT = ", without "  # begins `FrameNames.others`
PICTURE_SUFFIXES = frozenset((".jpg", ".jpeg", ".png"))
_NUMBERED = re.compile(r"(.*?)([0-9]+)(\.\w+)", re.DOTALL)
# What the names of optical flow begin with: one picture for each direction, "flow_x_00001.jpg".
_FLOW = re.compile(r"(opt(ical)?_?)?flow.*|[xyuv][_-]?", re.IGNORECASE)


class FrameNamesError(ValueError):
    """The names of a folder's pictures do not tell the order of the frames."""


@dataclass(frozen=True)
class FrameNames:
    """The frames of a folder.

    Attributes:
        pattern: as "img_%05d.jpg"; "%d" where the numbers are not padded.
        files: the names in the order of their numbers.
        first: the first number.
        gaps: (first, last) of each run of numbers that is missing between two files.
        others: the pictures beside them that are not read, as ", without x_….jpg"; empty if none.
    """

    pattern: str
    files: tuple[str, ...]
    first: int
    gaps: tuple[tuple[int, int], ...]
    others: str = ""

    @property
    def missing(self) -> int:
        """How many numbers are missing."""
        return sum(last - first + 1 for first, last in self.gaps)


def detect_frame_names(names: Iterable[str], chosen: str = "") -> FrameNames:
    """Finds how a folder's pictures are numbered; ignores other files and hidden ones.

    Where RGB pictures ("img_00001.jpg") and optical flow ("flow_x_00001.jpg", "y_00001.jpg") lie in
    one folder, the RGB ones are taken.

    Args:
        names: of the files.
        chosen: a pattern of the pictures to take, as "img_*.jpg" or "img_%05d.jpg"; "": all, less
            optical flow beside others.

    Raises:
        FrameNamesError: if there is no picture, a picture has no number, or there are two kinds of
            names.
    """
    names = list(names)
    pictures = [
        name
        for name in names
        if not name.startswith(".") and "." + name.lower().rpartition(".")[2] in PICTURE_SUFFIXES
    ]
    if chosen and pictures:
        names, glob = pictures, re.sub(r"%0?[0-9]*d", "*", chosen)
        pictures = [name for name in names if fnmatch.fnmatchcase(name, glob)]
        if not pictures:
            raise FrameNamesError(
                f"no picture matches {chosen!r} in this folder: {_abbreviate(names)}"
            )
    if not pictures:
        raise FrameNamesError(f"no .jpg or .png frames in this folder: {_abbreviate(names)}")
    matches = [_NUMBERED.fullmatch(name) for name in pictures]
    if None in matches:
        raise FrameNamesError(f"no frame number in the name {pictures[matches.index(None)]!r}")
    kinds = Counter((match[1], match[3]) for match in matches)
    others = ""
    if len(kinds) > 1:
        rgb = [kind for kind in kinds if not _FLOW.fullmatch(kind[0])]
        if len(rgb) != 1:
            raise FrameNamesError(
                f"two kinds of frame names in this folder: {_show_kinds(kinds)}; "
                f"prepare_data.py --frames chooses, as --frames '{min(kinds)[0]}*{min(kinds)[1]}'"
            )
        matches = [match for match in matches if (match[1], match[3]) == rgb[0]]
        left = sorted(f"{prefix}…{suffix}" for prefix, suffix in kinds.keys() - set(rgb))
        others = f"{WITHOUT}{' and '.join(left)}"
        kinds = Counter(rgb)
    by_number = {int(match[2]): match[0] for match in matches}
    if len(by_number) < len(matches):
        raise FrameNamesError("two frames of this folder have the same number")
    numbers = sorted(by_number)
    widths = {len(match[2]) for match in matches}
    padded = min(widths) > 1 and (
        len(widths) == 1 or any(match[2].startswith("0") for match in matches)
    )
    # Names that are padded to three digits go on with 1000, so the shortest number counts.
    digits = f"%0{min(widths)}d" if padded else "%d"
    prefix, suffix = next(iter(kinds))
    return FrameNames(
        pattern=f"{prefix}{digits}{suffix}",
        files=tuple(by_number[number] for number in numbers),
        first=numbers[0],
        gaps=find_gaps(numbers),
        others=others,
    )


def _show_kinds(kinds: Counter) -> str:
    """The two most frequent kinds of names, as "x_….jpg (52) and y_….jpg (52)"."""
    return " and ".join(
        f"{prefix}…{suffix} ({count})" for (prefix, suffix), count in kinds.most_common(2)
    )


def _abbreviate(names: Sequence[str]) -> str:
    if not names:
        return "it is empty"
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"it has {min(names)}{more}"


def find_gaps(numbers: Iterable[int]) -> tuple[tuple[int, int], ...]:
    """The (first, last) of each run that is missing between the ascending numbers."""
    return tuple((a + 1, b - 1) for a, b in itertools.pairwise(numbers) if b > a + 1)


def format_gaps(gaps: Iterable[tuple[int, int]]) -> str:
    """Formats gaps as "3 to 5, 9"; an empty text if there are none."""
    return ", ".join(f"{first}" if first == last else f"{first} to {last}" for first, last in gaps)
