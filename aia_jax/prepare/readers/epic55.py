"""EPIC-KITCHENS-55: segments of long videos with a verb and a noun, in a split of this project.

  RAW/EPIC_train_action_labels.csv       28,472 segments; columns are found by name
  RAW/EPIC_verb_classes.csv              the names of 125 verbs
  RAW/EPIC_noun_classes.csv              the names of 352 nouns
  RAW/<anywhere>/P01/P01_01/frame_0000000001.jpg, or P01/P01_01.tar with these frames,
                                         or P01/P01_01.MP4

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
import re
from collections.abc import Iterator
from pathlib import Path

from aia_jax.errors import UserError
from aia_jax.file_tree import folder_key, is_folder
from aia_jax.prepare.annotations import (
    number_classes,
    parse_frame,
    parse_int,
    parse_stamp,
    read_table,
)
from aia_jax.prepare.build_dataset import build_dataset, listed_video
from aia_jax.prepare.raw_dataset import RawDataset, RawVideo
from aia_jax.prepare.raw_folder import (
    Source,
    file_size,
    find_file,
    find_optional_file,
    visible_entries,
)
from aia_jax.video.segment import Segment

RECIPE = "configs/epic55.py:tsn,label=verb"
NUM_CLASSES = {"verb": 125, "noun": 352}
VALIDATION_PARTICIPANTS = frozenset(f"P{number:02d}" for number in range(26, 32))

_FOLDERS = ("annotations", "EPIC_KITCHENS_2018/annotations")
_DESCRIPTION = "of EPIC-KITCHENS-55's annotations"
_COLUMNS = (
    *("uid", "participant_id", "video_id", "start_timestamp", "stop_timestamp"),
    *("start_frame", "stop_frame", "verb_class", "noun_class"),
)
_VIDEO = re.compile(r"(P\d\d_\d\d\d?)(|\.tar|\.mp4)", re.IGNORECASE)
_SUFFIXES = ("", ".tar", ".mp4")  # of a video's forms; segments are cut fastest from the first
# Levels of folders that are searched: RAW/EPIC_KITCHENS_2018/frames_rgb_flow/rgb/train/P01 has six.
_DEPTH = 7


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds nothing: this reader has no options of its own."""


def read(raw: Path, options: argparse.Namespace) -> RawDataset:
    """Lists the labelled segments, with the labels "verb" and "noun".

    Raises:
        UserError: if the annotations are missing or a row of them is wrong, or no video is there.
    """
    labels = find_file(raw, ["EPIC_train_action_labels.csv"], _FOLDERS, description=_DESCRIPTION)
    files, remarks, names = [labels], [], {}
    for kind, count in NUM_CLASSES.items():
        if path := find_optional_file(
            raw, [f"EPIC_{kind}_classes.csv"], (*_FOLDERS, str(labels.parent.relative_to(raw)))
        ):
            rows = read_table(path, [f"{kind}_id", "class_key"])
            pairs = (
                (row[f"{kind}_id"], row["class_key"], f"{path}, line {number}")
                for number, row in rows
            )
            names[kind] = number_classes(path, pairs, 0)
            files.append(path)
        else:
            names[kind] = tuple(f"{kind} {k}" for k in range(count))
            remarks.append(
                f"no EPIC_{kind}_classes.csv beside {labels.name}: the {kind}s are named by their "
                "numbers"
            )
    sources = _sources(raw, _DEPTH)

    def segments() -> Iterator[RawVideo]:
        for number, row in read_table(labels, _COLUMNS):
            where = f"{labels}, line {number}"
            video, participant = row["video_id"], row["participant_id"]
            split = "validation" if participant in VALIDATION_PARTICIPANTS else "train"
            ids = {
                kind: parse_int(row[f"{kind}_class"], f"{where}, {kind}_class", 0, len(names[kind]))
                for kind in NUM_CLASSES
            }
            source = sources.get(video)
            expected = raw / participant / f"{video}.tar"
            segment = _segment(source, row, where)
            yield listed_video(
                f"{video}_{row['uid']}", source, expected, ids, split, segment, row=number
            )

    return build_dataset("epic55", names, segments(), files, raw, remarks)


def _segment(source: Source | None, row: dict[str, str], where: str) -> Segment:
    if source and source.path.suffix.lower() == ".mp4":
        start, stop = (
            parse_stamp(row[key], f"{where}, {key}")
            for key in ("start_timestamp", "stop_timestamp")
        )
        segment = Segment(start, stop, "seconds")
    else:
        first, last = (
            parse_frame(row[key], f"{where}, {key}") for key in ("start_frame", "stop_frame")
        )
        segment = Segment(first, last + 1, "numbers")
    if segment.start >= segment.stop:
        raise UserError(f"{where}: the segment ends before it begins ({segment})")
    return segment


def _sources(
    folder: Path, depth: int, above: frozenset[tuple[int, int] | None] = frozenset()
) -> dict[str, Source]:
    """Finds the long videos, at most `depth` levels down: by id, each in its best form.

    Links to the folders `above` are not followed.
    """
    found: dict[str, Source] = {}
    above |= {folder_key(folder)}
    for entry in visible_entries(folder):
        match, inner = _VIDEO.fullmatch(entry.name), is_folder(entry)
        if match and inner == (not match[2]):
            size = 0 if inner else file_size(entry)
            _add_if_better(found, match[1], Source(Path(entry.path), size))
        elif inner and depth > 1 and entry.name != "flow" and folder_key(entry.path) not in above:
            for video, source in _sources(Path(entry.path), depth - 1, above).items():
                _add_if_better(found, video, source)
    return found


def _add_if_better(found: dict[str, Source], video: str, source: Source) -> None:
    if video not in found or _rank(source) < _rank(found[video]):
        found[video] = source


def _rank(source: Source) -> int:
    return _SUFFIXES.index(source.path.suffix.lower())
