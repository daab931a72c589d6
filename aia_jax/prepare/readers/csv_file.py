"""Your own videos, listed in a CSV file with the columns path,label[,split][,start,stop][,group].

  RAW/videos.csv      path,label,split,start,stop
                      kitchen/cam 1.mp4,pour,train,12.5,15
  RAW/kitchen/cam 1.mp4

The first line names the columns, in any order and case; other columns are not read.

path    of a video file, of a folder of frames or of a .tar archive of frames; relative to RAW or
        absolute
label   a class name; class ids follow the alphabetical order of the names, or that of --classes
        FILE, a name a line. Labels that are all whole numbers from 0 are ids; without --classes
        they name the classes too. With --multi-label a video may have several, as "pour;stir": a
        name then holds no semicolon
split   train, validation (val) or test; without this column a share of each class becomes the split
        validation (--val-share)
start,  cut a segment out of a longer video: in seconds; in folders and archives the numbers of the
stop    first and the last frame. Where both are empty, the whole video is taken
group   of videos that go to validation together or not at all, as those of one person; without this
        column --group REGEX finds it in the paths
"""

import argparse
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from aia_jax.errors import UserError
from aia_jax.prepare.annotations import (
    parse_frame,
    parse_seconds,
    read_names,
    read_table,
    show_value,
)
from aia_jax.prepare.build_dataset import build_dataset, listed_video
from aia_jax.prepare.labels import number_labels
from aia_jax.prepare.raw_dataset import RawDataset, RawVideo, name_after
from aia_jax.prepare.raw_folder import (
    Source,
    abbreviate,
    find_file,
    find_listed_source,
    find_option_file,
)
from aia_jax.prepare.splits import (
    SPLITS,
    add_val_share,
    check_val_share,
    group_by_pattern,
    remarks_on_groups,
    split_off_validation,
)
from aia_jax.video.segment import Segment

_SEPARATOR = ";"  # between the labels of a video
_COLUMNS = ("path", "label", "split", "start", "stop", "group")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds `--csv`, `--classes`, `--multi-label`, `--val-share` and `--group`."""
    parser.add_argument(
        "--csv", metavar="FILE", help="the list (default: the one .csv file in RAW)"
    )
    parser.add_argument(
        "--classes", metavar="FILE", help="class names, one a line, in the order of their ids"
    )
    parser.add_argument(
        "--multi-label",
        action="store_true",
        default=None,
        help="videos may have several labels, with a semicolon between them; training then asks of "
        "each class by itself whether it is there",
    )
    add_val_share(parser, "without a column split")


def read(raw: Path, options: argparse.Namespace) -> RawDataset:
    """Lists the videos of a CSV file.

    Args:
        raw: the folder that paths start from.
        options: with `csv`, `classes` (file names or None), `multi_label` (True or None),
            `val_share` and `group` (a regular expression or None).

    Raises:
        UserError: if a file is missing or a row is wrong, or no video is there.
    """
    check_val_share(options.val_share)
    path = _find_list(raw, options.csv)
    files = [path]
    rows = list(read_table(path, ["path", "label"]))
    columns = list(rows[0][1]) if rows else []
    names = None
    if options.classes:
        files.append(find_option_file(raw, options.classes, "--classes"))
        names = read_names(files[1])
        _check_names(files[1], names, options.multi_label)
    labels = [_split_labels(path, number, row, names, options.multi_label) for number, row in rows]
    class_ids, names = number_labels(
        (
            (label, f"{path}, line {number}")
            for (number, _), own in zip(rows, labels, strict=True)
            for label in own
        ),
        names,
    )
    groups: dict[str, str] = {}

    def videos() -> Iterator[RawVideo]:
        for (number, row), own in zip(rows, labels, strict=True):
            where = f"{path}, line {number}"
            split = SPLITS.get(row.get("split", "train").lower())
            if split is None:
                raise UserError(
                    f"{where}: found the split {show_value(row['split'])}, expected train, "
                    "validation or test"
                )
            name, source = find_listed_source(raw, row["path"])
            segment = _segment(source, name, row, where)
            video_id = name + (f" {segment}" if segment else "")
            if "group" in row:
                if not row["group"]:
                    raise UserError(f"{where}: nothing in the column group; name one in each line")
                groups[video_id] = row["group"]
            ids = tuple(dict.fromkeys(class_ids[label] for label in own))
            label = {"label": ids if options.multi_label else ids[0]}
            yield listed_video(video_id, source, raw / name, label, split, segment, row=number)

    found, remarks = list(videos()), []
    if options.group:
        if groups:
            raise UserError(f"{path} has a column group already; leave out --group, or rename it")
        groups = group_by_pattern(found, options.group)
    if unread := [name for name in columns if name and name not in _COLUMNS]:
        remarks.append(f"columns of {path.name} that are not read: {abbreviate(unread)}")
    if rows and options.multi_label:
        counts = [len(video.labels["label"]) for video in found]
        remarks.append(
            f"labels of a video: {min(counts)} to {max(counts)}, "
            f"{sum(counts) / len(counts):.2g} on average"
        )
    joined = [label for label in names if _SEPARATOR in label]
    if joined and not options.multi_label:
        remarks.append(
            f"classes whose name holds a semicolon: {len(joined)} ({abbreviate(joined)}); if that "
            "joins the labels of a video, give --multi-label"
        )
    if rows and "split" not in columns:
        found = split_off_validation(found, options.val_share, groups or None)
    if groups:
        remarks += remarks_on_groups(found, groups)
    return build_dataset(
        name_after(raw),
        {"label": names},
        found,
        files,
        raw,
        remarks,
        unique_sources=True,
        label_sets=("label",) if options.multi_label else (),
    )


def _check_names(path: Path, names: Sequence[str], multi_label: bool | None) -> None:
    """Refuses a file of class names without any, or with one that no row could name."""
    if not names:
        raise UserError(f"{path}: found no class names, expected one a line")
    joined = [name for name in names if _SEPARATOR in name]
    if joined and multi_label:
        raise UserError(
            f"{path}: found the class {joined[0]!r}, but with --multi-label a semicolon stands "
            "between the labels of a video; name it without one"
        )


def _split_labels(
    path: Path,
    number: int,
    row: dict[str, str],
    names: Sequence[str] | None,
    multi_label: bool | None,
) -> list[str]:
    """The labels of a row."""
    labels = [label.strip() for label in row["label"].split(_SEPARATOR)]
    if not multi_label:
        if len(labels) > 1 and names is not None and set(names).issuperset(labels):
            raise UserError(
                f"{path}, line {number}: found {show_value(row['label'])}, several of the classes, "
                "expected one; if videos may have several labels, give --multi-label"
            )
        return [row["label"]]
    if not all(labels):
        raise UserError(
            f"{path}, line {number}: found the labels {show_value(row['label'])}, expected names "
            "with one semicolon between two, as pour;stir"
        )
    return labels


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


def _segment(source: Source | None, name: str, row: dict[str, str], where: str) -> Segment | None:
    start, stop = row.get("start", ""), row.get("stop", "")
    if not start and not stop:
        return None
    for column, other in (("start", "stop"), ("stop", "start")):
        if not row.get(column):
            raise UserError(
                f"{where}: found a {other} and no {column}; a segment needs both, a whole video "
                "none"
            )
    if (source and os.path.isdir(source.path)) or name.lower().endswith(".tar"):  # noqa: PTH112
        first, last = parse_frame(start, f"{where}, start"), parse_frame(stop, f"{where}, stop")
        segment = Segment(first, last + 1, "numbers")
    else:
        times = parse_seconds(start, f"{where}, start"), parse_seconds(stop, f"{where}, stop")
        segment = Segment(*times, "seconds")
    if segment.start >= segment.stop:
        raise UserError(f"{where}: the segment ends before it begins ({segment})")
    return segment
