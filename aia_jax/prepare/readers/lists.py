"""Your own videos, in list files as many projects have them: one a split, each line "PATH FRAMES
LABEL" or "PATH LABEL".

  RAW/videos/clip 1.mp4        a video file, or a folder of frames
  train.txt                    videos/clip 1.mp4 3           or, for frames,    frames/clip1 52 3

Give the files with --train-list, --val-list and --test-list; they and the paths in them start from
RAW or else are absolute (a list may also start from the current folder). LABEL is a class id, from
0; names come from --classes FILE, one a line, else the ids are the names. FRAMES says how many
frames of a folder count, from its first one on, or from number --first-frame on (0 and 1 are usual;
a folder that begins with another number is read from there if this is not given). Of a video file
all frames are taken, whatever FRAMES says.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

from aia_jax.errors import UserError
from aia_jax.prepare.annotations import dataset, lines, listed, whole
from aia_jax.prepare.item import Part, RawDataset, RawVideo
from aia_jax.prepare.listing import name_from
from aia_jax.prepare.readers.csv_file import given_file, source_at

_LOOKED_AT = 20  # lines whose paths are looked up to tell the two kinds of lists apart


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options that name the lists, `--classes` and `--first-frame`."""
    for option, split in (
        ("--train-list", "train"),
        ("--val-list", "validation"),
        ("--test-list", "test"),
    ):
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
    given = {"train": "--train-list", "validation": "--val-list", "test": "--test-list"}
    names = {
        split: getattr(options, option[2:].replace("-", "_")) for split, option in given.items()
    }
    files = {split: given_file(raw, name, given[split]) for split, name in names.items() if name}
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
        annotations.append(given_file(raw, options.classes, "--classes"))
        classes = [line for _, line in lines(annotations[-1])]
    else:
        classes = [
            str(k) for k in range(max((video.labels["label"] for video in videos), default=0) + 1)
        ]
    if high := [video for video in videos if video.labels["label"] >= len(classes)]:
        raise UserError(
            f"{high[0].video_id} has the label {high[0].labels['label']}, but {annotations[-1]} "
            f"names {len(classes)} classes"
        )
    return dataset(name_from(raw), {"label": classes}, videos, annotations, raw)


def _videos(raw: Path, path: Path, split: str, first_frame: int | None) -> Iterator[RawVideo]:
    rows = list(lines(path))
    with_frames = _has_frames(raw, path, rows)
    for number, line in rows:
        where = f"{path}, line {number}"
        name, *numbers = line.rsplit(maxsplit=2 if with_frames else 1)
        if len(numbers) != (2 if with_frames else 1):
            raise UserError(
                f"{where}: found {line!r}, expected "
                f"{'PATH FRAMES LABEL' if with_frames else 'PATH LABEL'}"
            )
        source, part = source_at(raw / name), None
        if with_frames and not (source and source.path.is_file()):
            first, unit = (0, "places") if first_frame is None else (first_frame, "numbers")
            part = Part(first, first + whole(numbers[0], f"{where}, FRAMES", 1), unit)
        yield listed(
            name, source, raw / name, {"label": whole(numbers[-1], f"{where}, LABEL")}, split, part
        )


def _has_frames(raw: Path, path: Path, rows: list[tuple[int, str]]) -> bool:
    """Whether the lines are PATH FRAMES LABEL: all end in two numbers, and these are no part of the
    paths.
    """
    parts = [line.rsplit(maxsplit=2) for _, line in rows]
    if not all(
        len(words) == 3 and words[1].isdecimal() and words[2].isdecimal() for words in parts
    ):
        return False
    looked_at = rows[:_LOOKED_AT]
    short, long = (
        sum((raw / line.rsplit(maxsplit=count)[0]).exists() for _, line in looked_at)
        for count in (2, 1)
    )
    return short >= long
