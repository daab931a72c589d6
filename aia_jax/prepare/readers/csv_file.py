"""Your own videos, listed in a CSV file: path,label[,split][,start,stop], the columns found by
their names.

  RAW/videos.csv      path,label,split,start,stop
                      kitchen/cam 1.mp4,pour,train,12.5,15
  RAW/kitchen/cam 1.mp4

A path, relative to RAW or absolute, is that of a video file, of a folder of frames or of a .tar
archive of frames. A label is a class name, and class ids follow their alphabetical order; or with
--classes FILE (a name a line, in the order of the ids) a name or an id, from
0. Without it, labels that are all whole numbers are ids too, and the classes are named by them.
split is train, validation (val) or test; without that column a share of each class becomes the
split validation (--val-share). start and stop cut a segment out of a longer video: in seconds; in
folders and archives the numbers of the first and the last frame. Where both are empty, all of it is
taken.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from aia_jax.errors import UserError
from aia_jax.prepare.annotations import Source, dataset, find, lines, listed, table, whole
from aia_jax.prepare.item import Part, RawDataset, RawVideo
from aia_jax.prepare.listing import name_from
from aia_jax.prepare.splits import SPLITS, add_val_share, check_val_share, with_validation


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
    path = _list(raw, options.csv)
    files = [path]
    rows = list(table(path, ["path", "label"]))
    names = None
    if options.classes:
        files.append(given_file(raw, options.classes, "--classes"))
        names = [line for _, line in lines(files[1])]
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
            place = raw / row["path"]
            part = _part(place, row, where)
            video_id = row["path"] + (f" {part}" if part else "")
            yield listed(
                video_id, source_at(place), place, {"label": class_ids[row["label"]]}, split, part
            )

    found = list(videos())
    if rows and "split" not in rows[0][1]:
        found = with_validation(found, options.val_share)
    return dataset(name_from(raw), {"label": names}, found, files, raw)


def given_file(raw: Path, name: str, option: str) -> Path:
    """The file that an option names, seen from the raw folder or else from the current one.

    Raises:
        UserError: if it is not there.
    """
    for path in (raw / name, Path(name)):
        if path.is_file():
            return path.resolve()
    raise UserError(
        f"{option} {name}: there is no such file, neither in {raw} nor in the current folder"
    )


def source_at(place: Path) -> Source | None:
    """The video file, archive or folder at a path; None if there is none."""
    if place.is_dir():
        return Source(place, 0)
    return Source(place, place.stat().st_size) if place.is_file() else None


def _list(raw: Path, name: str | None) -> Path:
    if name:
        return given_file(raw, name, "--csv")
    there = sorted(raw.glob("*.csv"))
    if len(there) > 1:
        raise UserError(
            f"{raw} has several .csv files ({', '.join(path.name for path in there)}): say which "
            "with --csv"
        )
    return (
        there[0]
        if there
        else find(raw, ["videos.csv"], what="the list of videos; or name it with --csv")
    )


def _class_ids(
    labels: Sequence[str], names: Sequence[str] | None
) -> tuple[dict[str, int], Sequence[str]]:
    """Class ids by what a row may say, and the class names."""
    numbers = all(label.isdecimal() for label in labels)
    if names is None:
        names = (
            [str(k) for k in range(max(map(int, labels), default=0) + 1)]
            if numbers
            else sorted(set(labels))
        )
    by_id = {label: int(label) for label in set(labels) if numbers and int(label) < len(names)}
    return {name: k for k, name in enumerate(names)} | by_id, names


def _part(place: Path, row: dict[str, str], where: str) -> Part | None:
    start, stop = row.get("start", ""), row.get("stop", "")
    if not start and not stop:
        return None
    if place.is_dir() or place.suffix.lower() == ".tar":
        part = Part(whole(start, f"{where}, start"), whole(stop, f"{where}, stop") + 1, "numbers")
    else:
        try:
            part = Part(float(start), float(stop), "seconds")
        except ValueError:
            raise UserError(
                f"{where}: found {start!r} and {stop!r} as start and stop, expected seconds"
            ) from None
    if not 0 <= part.start < part.stop:
        raise UserError(f"{where}: the segment ends before it begins ({part})")
    return part
