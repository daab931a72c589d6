"""Your own videos, in a list file a split with lines "PATH FRAMES LABEL" or "PATH LABEL".

  RAW/videos/clip 1.mp4        a video file, or a folder of frames
  train.txt                    videos/clip 1.mp4 3           or, for frames,    frames/clip1 52 3

Give the files with --train-list, --val-list and --test-list. They and the paths in them start from
RAW or are absolute; a list may also start from the current folder.

LABEL    a class id, from 0; the names come from --classes FILE, one a line, else the ids are the
         names
FRAMES   how many frames of a folder count, from its first one on, or from number --first-frame on.
         0 and 1 are usual; without --first-frame a folder begins with its lowest number. Of a video
         file all frames are taken, whatever FRAMES says
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

from aia_jax.errors import UserError
from aia_jax.prepare.annotations import parse_int, read_lines
from aia_jax.prepare.raw_dataset import (
    RawDataset,
    RawVideo,
    build_dataset,
    listed_video,
    name_after,
)
from aia_jax.prepare.raw_folder import find_option_file, find_source
from aia_jax.video.segment import Segment

_CHECKED_LINES = 20  # their paths are looked up to tell the two kinds of lists apart
_LIST_OPTIONS = {"train": "--train-list", "validation": "--val-list", "test": "--test-list"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options that name the lists, `--classes` and `--first-frame`."""
    for split, option in _LIST_OPTIONS.items():
        parser.add_argument(option, metavar="FILE", help=f"the list of the split {split}")
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
        options: with `train_list`, `val_list`, `test_list`, `classes` (file names or None) and
            `first_frame` (int or None).

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
    videos = [
        video
        for split, path in files.items()
        for video in _videos(raw, path, split, options.first_frame)
    ]
    annotations = [*files.values()]
    if options.classes:
        annotations.append(find_option_file(raw, options.classes, "--classes"))
        classes = [line for _, line in read_lines(annotations[-1])]
    else:
        classes = [
            str(k) for k in range(max((video.labels["label"] for video in videos), default=0) + 1)
        ]
    if high := [video for video in videos if video.labels["label"] >= len(classes)]:
        raise UserError(
            f"{high[0].video_id} has the label {high[0].labels['label']}, but {annotations[-1]} "
            f"names {len(classes)} classes"
        )
    return build_dataset(name_after(raw), {"label": classes}, videos, annotations, raw)


def _videos(raw: Path, path: Path, split: str, first_frame: int | None) -> Iterator[RawVideo]:
    rows = list(read_lines(path))
    with_frames = _has_frames(raw, path, rows)
    for number, line in rows:
        where = f"{path}, line {number}"
        name, *numbers = line.rsplit(maxsplit=2 if with_frames else 1)
        if len(numbers) != (2 if with_frames else 1):
            raise UserError(
                f"{where}: found {line!r}, expected "
                f"{'PATH FRAMES LABEL' if with_frames else 'PATH LABEL'}"
            )
        source, segment = find_source(raw / name), None
        if with_frames and not (source and source.path.is_file()):
            first, unit = (0, "positions") if first_frame is None else (first_frame, "numbers")
            count = parse_int(numbers[0], f"{where}, FRAMES", 1)
            segment = Segment(first, first + count, unit)
        labels = {"label": parse_int(numbers[-1], f"{where}, LABEL")}
        yield listed_video(name, source, raw / name, labels, split, segment)


def _has_frames(raw: Path, path: Path, rows: list[tuple[int, str]]) -> bool:
    """Whether the lines are PATH FRAMES LABEL.

    That is so if all lines end in two numbers and the paths exist without the first of them rather
    than with it.
    """
    parts = [line.rsplit(maxsplit=2) for _, line in rows]
    if not all(
        len(words) == 3 and words[1].isdecimal() and words[2].isdecimal() for words in parts
    ):
        return False
    without_number, with_number = (
        sum((raw / line.rsplit(maxsplit=count)[0]).exists() for _, line in rows[:_CHECKED_LINES])
        for count in (2, 1)
    )
    return without_number >= with_number
