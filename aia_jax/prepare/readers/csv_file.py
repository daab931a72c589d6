"""Your own videos, listed in a CSV file with the columns path,label[,split][,start,stop].

  RAW/videos.csv      path,label,split,start,stop
                      kitchen/cam 1.mp4,pour,train,12.5,15
  RAW/kitchen/cam 1.mp4

The first line names the columns, in any order; other columns are ignored.

path    of a video file, of a folder of frames or of a .tar archive of frames; relative to RAW or
        absolute
label   a class name; class ids follow the alphabetical order of the names. With --classes FILE (a
        name a line, in the order of the ids) a name or an id, from 0. Without it, labels that are
        all whole numbers are ids too, and the classes are named by them
split   train, validation (val) or test; without this column a share of each class becomes the split
        validation (--val-share)
start,  cut a segment out of a longer video: in seconds; in folders and archives the numbers of the
stop    first and the last frame. Where both are empty, the whole video is taken
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from aia_jax.errors import UserError
from aia_jax.prepare.annotations import parse_int, read_lines, read_table
from aia_jax.prepare.raw_dataset import (
    RawDataset,
    RawVideo,
    build_dataset,
    listed_video,
    name_after,
)
from aia_jax.prepare.raw_folder import find_file, find_option_file, find_source
from aia_jax.prepare.splits import SPLITS, add_val_share, check_val_share, split_off_validation
from aia_jax.video.segment import Segment


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds `--csv`, `--classes` and `--val-share`."""
    parser.add_argument(
        "--csv", metavar="FILE", help="the list (default: the one .csv file in RAW)"
    )
    parser.add_argument(
        "--classes", metavar="FILE", help="class names, one a line, in the order of their ids"
    )
    add_val_share(parser, "without a column split")


def read(raw: Path, options: argparse.Namespace) -> RawDataset:
    """Lists the videos of a CSV file.

    Args:
        raw: the folder that paths start from.
        options: with `csv`, `classes` (file names or None) and `val_share`.

    Raises:
        UserError: if a file is missing or a row is wrong, or no video is there.
    """
    check_val_share(options.val_share)
    path = _find_list(raw, options.csv)
    files = [path]
    rows = list(read_table(path, ["path", "label"]))
    names = None
    if options.classes:
        files.append(find_option_file(raw, options.classes, "--classes"))
        names = [line for _, line in read_lines(files[1])]
    class_ids, names = _class_ids([row["label"] for _, row in rows], names)

    def videos() -> Iterator[RawVideo]:
        for number, row in rows:
            where = f"{path}, line {number}"
            if row["label"] not in class_ids:
                raise UserError(
                    f"{where}: found the label {row['label']!r}, expected one of the {len(names)} "
                    "classes or its id"
                )
            split = SPLITS.get(row.get("split", "train").lower())
            if split is None:
                raise UserError(
                    f"{where}: found the split {row['split']!r}, expected train, validation or test"
                )
            video = raw / row["path"]
            segment = _segment(video, row, where)
            video_id = row["path"] + (f" {segment}" if segment else "")
            label = {"label": class_ids[row["label"]]}
            yield listed_video(video_id, find_source(video), video, label, split, segment)

    found = list(videos())
    if rows and "split" not in rows[0][1]:
        found = split_off_validation(found, options.val_share)
    return build_dataset(name_after(raw), {"label": names}, found, files, raw)


def _find_list(raw: Path, name: str | None) -> Path:
    if name:
        return find_option_file(raw, name, "--csv")
    paths = sorted(raw.glob("*.csv"))
    if len(paths) > 1:
        raise UserError(
            f"{raw} has several .csv files ({', '.join(path.name for path in paths)}): say which "
            "with --csv"
        )
    if paths:
        return paths[0]
    return find_file(raw, ["videos.csv"], description="the list of videos; or name it with --csv")


def _class_ids(
    labels: Sequence[str], names: Sequence[str] | None
) -> tuple[dict[str, int], Sequence[str]]:
    """Class ids by the labels that a row may have, and the class names."""
    numbers = all(label.isdecimal() for label in labels)
    if names is None:
        names = sorted(set(labels))
        if numbers:
            names = [str(k) for k in range(max(map(int, labels), default=0) + 1)]
    by_id = {label: int(label) for label in set(labels) if numbers and int(label) < len(names)}
    return {name: k for k, name in enumerate(names)} | by_id, names


def _segment(video: Path, row: dict[str, str], where: str) -> Segment | None:
    start, stop = row.get("start", ""), row.get("stop", "")
    if not start and not stop:
        return None
    if video.is_dir() or video.suffix.lower() == ".tar":
        first, last = parse_int(start, f"{where}, start"), parse_int(stop, f"{where}, stop")
        segment = Segment(first, last + 1, "numbers")
    else:
        try:
            segment = Segment(float(start), float(stop), "seconds")
        except ValueError:
            raise UserError(
                f"{where}: found {start!r} and {stop!r} as start and stop, expected seconds"
            ) from None
    if not 0 <= segment.start < segment.stop:
        raise UserError(f"{where}: the segment ends before it begins ({segment})")
    return segment
