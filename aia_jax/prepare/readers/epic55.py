"""EPIC-KITCHENS-55: segments of long videos, each with a verb and a noun, in a training and
validation split of this project.

  RAW/EPIC_train_action_labels.csv       28,472 segments; columns are found by name
  RAW/EPIC_verb_classes.csv, RAW/EPIC_noun_classes.csv        the names of 125 verbs and 352 nouns
  RAW/<anywhere>/P01/P01_01/frame_0000000001.jpg, or P01/P01_01.tar with these frames, or
  P01/P01_01.MP4

The CSV files (of the data set's annotations repository) may also lie in RAW/annotations. Of a video
that comes in several forms, frames are taken before .tar files and these before .MP4 files; folders
called "flow" are passed over. The segments are start_frame to stop_frame (both included) of the
frames, or start_timestamp to stop_timestamp of an .MP4 file.

The labels of the official test sets are not public. The split here is by participant: P01 to P25
train, P26 to P31 validate, so no kitchen is in both. The paper made its own split "following the
similar strategy in" Baradel et al. (ECCV 2018) and does not print it, so numbers may differ from
its Table V for that reason alone. Some verb and noun ids never occur; all keep their ids.
"""

import argparse
import os
import re
from collections.abc import Iterator
from pathlib import Path

from aia_jax.errors import UserError
from aia_jax.prepare.annotations import (
    Source,
    dataset,
    find,
    find_optional,
    listed,
    numbered_names,
    table,
    whole,
)
from aia_jax.prepare.item import Part, RawDataset, RawVideo

NUM_CLASSES = {"verb": 125, "noun": 352}
VALIDATION_PARTICIPANTS = frozenset(f"P{number:02d}" for number in range(26, 32))

_FOLDERS = ("annotations", "EPIC_KITCHENS_2018/annotations")
_WHAT = "of EPIC-KITCHENS-55's annotations"
_COLUMNS = (
    "uid", "participant_id", "video_id", "start_timestamp", "stop_timestamp", "start_frame", "stop_frame", "verb_class", "noun_class"
)  # fmt: skip
_VIDEO = re.compile(r"(P\d\d_\d\d\d?)(|\.tar|\.mp4)", re.IGNORECASE)
_FORMS = ("", ".tar", ".mp4")  # the better one first: the quicker to cut
# folders below RAW: EPIC_KITCHENS_2018/frames_rgb_flow/rgb/train/P01/P01_01.tar, and one more
_DEPTH = 7


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """This reader has no options of its own."""


def read(raw: Path, options: argparse.Namespace) -> RawDataset:
    """Lists the labelled segments, with the labels "verb" and "noun".

    Raises:
        UserError: if the annotations are missing or a row of them is wrong, or no video is there.
    """
    labels = find(raw, ["EPIC_train_action_labels.csv"], _FOLDERS, what=_WHAT)
    files, remarks, names = [labels], [], {}
    for kind, count in NUM_CLASSES.items():
        if path := find_optional(
            raw, [f"EPIC_{kind}_classes.csv"], (*_FOLDERS, str(labels.parent.relative_to(raw)))
        ):
            rows = table(path, [f"{kind}_id", "class_key"])
            pairs = (
                (row[f"{kind}_id"], row["class_key"], f"{path}, line {number}")
                for number, row in rows
            )
            names[kind] = numbered_names(path, pairs, 0)
            files.append(path)
        else:
            names[kind] = tuple(f"{kind} {k}" for k in range(count))
            remarks.append(
                f"no EPIC_{kind}_classes.csv beside {labels.name}: the {kind}s are named by their "
                "numbers"
            )
    sources = _sources(raw, _DEPTH)

    def segments() -> Iterator[RawVideo]:
        for number, row in table(labels, _COLUMNS):
            where = f"{labels}, line {number}"
            video, participant = row["video_id"], row["participant_id"]
            split = "validation" if participant in VALIDATION_PARTICIPANTS else "train"
            ids = {
                kind: whole(row[f"{kind}_class"], f"{where}, {kind}_class", 0, len(names[kind]))
                for kind in NUM_CLASSES
            }
            source = sources.get(video)
            expected = raw / participant / f"{video}.tar"
            yield listed(
                f"{video}_{row['uid']}", source, expected, ids, split, _part(source, row, where)
            )

    return dataset("epic55", names, segments(), files, raw, remarks)


def _part(source: Source | None, row: dict[str, str], where: str) -> Part:
    if source and source.path.suffix.lower() == ".mp4":
        part = Part(
            *(
                _seconds(row[key], f"{where}, {key}")
                for key in ("start_timestamp", "stop_timestamp")
            ),
            "seconds",
        )
    else:
        first, last = (whole(row[key], f"{where}, {key}") for key in ("start_frame", "stop_frame"))
        part = Part(first, last + 1, "numbers")
    if part.start >= part.stop:
        raise UserError(f"{where}: the segment ends before it begins ({part})")
    return part


def _seconds(stamp: str, where: str) -> float:
    """Of "00:01:02.50"."""
    match = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", stamp)
    if not match:
        raise UserError(f"{where}: found {stamp!r}, expected HOURS:MINUTES:SECONDS")
    return int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3])


def _sources(folder: Path, depth: int) -> dict[str, Source]:
    """The long videos by id, each in its best form."""
    found: dict[str, Source] = {}
    with os.scandir(folder) as scan:
        entries = sorted(
            (entry for entry in scan if not entry.name.startswith(".")),
            key=lambda entry: entry.name,
        )
    for entry in entries:
        match, is_folder = _VIDEO.fullmatch(entry.name), entry.is_dir()
        if match and is_folder == (not match[2]):
            _keep_better(
                found, match[1], Source(Path(entry.path), 0 if is_folder else entry.stat().st_size)
            )
        elif is_folder and depth > 1 and entry.name != "flow":
            for video, source in _sources(Path(entry.path), depth - 1).items():
                _keep_better(found, video, source)
    return found


def _keep_better(found: dict[str, Source], video: str, source: Source) -> None:
    there = found.get(video)
    if there is None or _rank(source) < _rank(there):
        found[video] = source


def _rank(source: Source) -> int:
    return _FORMS.index(source.path.suffix.lower())
