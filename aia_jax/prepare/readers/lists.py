"""Your own videos, in a list file a split with lines "PATH FRAMES LABEL" or "PATH LABEL".

  RAW/videos/clip 1.mp4        a video file, or a folder of frames
  train.txt                    videos/clip 1.mp4 3           or, for frames,    frames/clip1 52 3

Give the files with --train-list, --val-list and --test-list. They and the paths in them start from
RAW or are absolute; a list may also start from the current folder.

LABEL    a class id, from 0; the names come from --classes FILE, one a line, else the ids are the
         names
FRAMES   how many frames of a folder count, from its first one on, or from number --first-frame on.
         0 and 1 are usual; without --first-frame a folder begins with its lowest number. Of a video
         file all frames are taken; where FRAMES is far from their number, a note says so

Which of the two kinds a list is, is found by looking for its paths; --columns says it, also for
lists of the kind PATH LABEL FRAMES. Paths may stand in quotes, or have backslashes.
"""

import argparse
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from aia_jax.errors import UserError, shorten
from aia_jax.prepare.annotations import (
    LARGEST_FRAME,
    is_whole,
    parse_frame,
    parse_int,
    read_lines,
    read_names,
    show_value,
)
from aia_jax.prepare.build_dataset import build_dataset, listed_video
from aia_jax.prepare.labels import number_labels
from aia_jax.prepare.raw_dataset import RawDataset, RawVideo, name_after
from aia_jax.prepare.raw_folder import (
    VIDEO_SUFFIXES,
    find_listed_source,
    find_option_file,
)
from aia_jax.video.segment import Segment

_CHECKED_LINES = 20  # their paths are looked up to tell the two kinds of lists apart
_LIST_OPTIONS = {"train": "--train-list", "validation": "--val-list", "test": "--test-list"}
_COLUMNS = ("path,label", "path,frames,label", "path,label,frames")
# A path whose suffix shows where it ends, and the numbers behind it.
_NUMBERS = re.compile(
    rf"(.*(?:{'|'.join(map(re.escape, sorted(VIDEO_SUFFIXES)))}|\.tar)[\"']?)((?:\s+-?[0-9]+)+)",
    re.IGNORECASE,
)


class _Line(NamedTuple):
    """A line of a list.

    Attributes:
        where: the file and the line, for errors.
        number: of the line, from 1.
        path: as it is written.
        frames: the text of FRAMES; empty if the list has none.
        label: the text of LABEL.
    """

    where: str
    number: int
    path: str
    frames: str
    label: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options that name the lists, `--columns`, `--classes` and `--first-frame`."""
    for split, option in _LIST_OPTIONS.items():
        parser.add_argument(option, metavar="FILE", help=f"the list of the split {split}")
    parser.add_argument(
        "--columns",
        choices=_COLUMNS,
        metavar="COLUMNS",
        help=f"what a line has: {'; '.join(_COLUMNS)} (default: found by looking)",
    )
    parser.add_argument(
        "--classes", metavar="FILE", help="class names, one a line, in the order of their ids"
    )
    parser.add_argument(
        "--first-frame",
        type=int,
        metavar="N",
        help="the number of a folder's first frame (default: the lowest that is there)",
    )


def read(raw: Path, options: argparse.Namespace) -> RawDataset:
    """Lists the videos of list files.

    Args:
        raw: the folder that paths start from.
        options: with `train_list`, `val_list`, `test_list`, `classes` (file names or None),
            `columns` (one of the choices, or None) and `first_frame` (int or None).

    Raises:
        UserError: if no list is given, a file is missing or a line is wrong, or no video is there.
    """
    names = {
        "train": options.train_list,
        "validation": options.val_list,
        "test": options.test_list,
    }
    files = {
        split: find_option_file(raw, name, _LIST_OPTIONS[split])
        for split, name in names.items()
        if name
    }
    if not files:
        raise UserError(
            "no list: give at least --train-list FILE; each line of it is PATH FRAMES LABEL, or "
            "PATH LABEL"
        )
    first_frame = options.first_frame
    if first_frame is not None and not 0 <= first_frame < LARGEST_FRAME:
        raise UserError(f"--first-frame {first_frame}: frame numbers are 0 to {LARGEST_FRAME - 1}")
    lines = {split: list(_parse_lines(raw, path, options.columns)) for split, path in files.items()}
    annotations = [*files.values()]
    names = None
    if options.classes:
        annotations.append(find_option_file(raw, options.classes, "--classes"))
        names = read_names(annotations[-1])
    labels = [(line.label, f"{line.where}, LABEL") for found in lines.values() for line in found]
    for label, where in labels:
        parse_int(label, where)
    class_ids, names = number_labels(labels, names)
    videos = [
        _video(raw, line, class_ids[line.label], split, first_frame)
        for split, found in lines.items()
        for line in found
    ]
    return build_dataset(
        name_after(raw), {"label": names}, videos, annotations, raw, unique_sources=True
    )


def _video(raw: Path, line: _Line, label: int, split: str, first_frame: int | None) -> RawVideo:
    name, source = find_listed_source(raw, line.path)
    segment, listed = None, 0
    if line.frames:
        listed = parse_frame(line.frames, f"{line.where}, FRAMES", 1)
        if not (source and os.path.isfile(source.path)):  # noqa: PTH113
            first, unit = (0, "positions") if first_frame is None else (first_frame, "numbers")
            segment, listed = Segment(first, first + listed, unit), 0
    return listed_video(
        name,
        source,
        raw / name,
        {"label": label},
        split,
        segment,
        row=line.number,
        listed_frames=listed,
    )


def _parse_lines(raw: Path, path: Path, columns: str | None) -> Iterator[_Line]:
    """Yields the lines of a list, whose kind is `columns`; None: it is found by looking."""
    rows = list(read_lines(path))
    columns = columns or _find_columns(raw, path, rows)
    count = columns.count(",")
    expected = columns.upper().replace(",", " ")
    for number, line in rows:
        where = f"{path}, line {number}"
        name, *numbers = line.rsplit(maxsplit=count)
        if len(numbers) != count:
            hint = "; for lines with commas there is the data set “csv”" if "," in line else ""
            raise UserError(f"{where}: found {show_value(line)}, expected {expected}{hint}")
        plain = _NUMBERS.fullmatch(line)
        if plain and len(plain[2].split()) > count and not os.path.exists(raw / name):  # noqa: PTH110
            raise UserError(
                f"{where}: found {len(plain[2].split())} numbers behind {shorten(plain[1])}, "
                f"expected {expected}; several labels of one video are not read, and --columns "
                "says what the numbers are"
            )
        label = numbers[-1] if columns != "path,label,frames" else numbers[0]
        frames = "" if count == 1 else numbers[0] if label is numbers[-1] else numbers[-1]
        yield _Line(where, number, name, frames, label)


def _find_columns(raw: Path, path: Path, rows: list[tuple[int, str]]) -> str:
    """Whether the lines are PATH FRAMES LABEL or PATH LABEL, in the form of `--columns`.

    They have FRAMES if all end in two numbers and the paths exist without the first of them rather
    than with it.

    Raises:
        UserError: if the numbers before the last rather look like labels, the last like FRAMES.
    """
    parts = [line.rsplit(maxsplit=2) for _, line in rows]
    if not all(len(words) == 3 and is_whole(words[1]) and is_whole(words[2]) for words in parts):
        return "path,label"
    without_number, with_number = (
        sum(
            find_listed_source(raw, line.rsplit(maxsplit=count)[0])[1] is not None
            for _, line in rows[:_CHECKED_LINES]
        )
        for count in (2, 1)
    )
    if without_number < with_number:
        return "path,label"
    frames, labels = ({int(words[k]) for words in parts} for k in (1, 2))
    if parts and _are_ids(frames) and not _are_ids(labels) and max(labels) > max(frames):
        raise UserError(
            f"{path}, line {rows[0][0]}: found {show_value(rows[0][1])}, read as PATH FRAMES "
            f"LABEL; but in this list FRAMES are {', '.join(map(str, sorted(frames)[:4]))}"
            f"{', …' if len(frames) > 4 else ''}, as class ids are, and LABEL goes up to "
            f"{max(labels)}: say what the numbers are with --columns path,label,frames or "
            "--columns path,frames,label"
        )
    return "path,frames,label"


def _are_ids(numbers: set[int]) -> bool:
    """Whether they go up from 0 or 1 without a gap."""
    first = min(numbers)
    return first in (0, 1) and numbers == set(range(first, first + len(numbers)))
