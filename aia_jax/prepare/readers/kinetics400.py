"""Kinetics-400: MP4 clips, flat or in class folders, and a CSV file a split.

  RAW/train.csv, RAW/val.csv (or validate.csv), and if it has labels RAW/test.csv
                label,youtube_id,time_start,time_end,split[,is_cc]
  RAW/<anywhere, up to 3 folders deep>/<youtube_id>_000010_000020.mp4

The files' names may begin with kinetics_400_, kinetics-400_, kinetics400_ or k400_, and they may
lie in RAW/annotations. Class ids follow the alphabetical order of the labels. Many clips have gone
from YouTube or were cut off on the way: what is missing is counted for each split and listed in
OUT/bad.txt, and so is what cannot be read.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

from aia_jax.errors import UserError
from aia_jax.prepare.annotations import (
    dataset,
    find,
    find_optional,
    listed,
    sources_below,
    table,
    whole,
)
from aia_jax.prepare.item import RawDataset, RawVideo

_FOLDERS = ("annotations", "labels")
_PREFIXES = ("", "kinetics_400_", "kinetics-400_", "kinetics400_", "k400_")
_COLUMNS = ("youtube_id", "time_start", "time_end")
_DEPTH = 4  # RAW/videos/train/<class>/<clip>.mp4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """This reader has no options of its own."""


def read(raw: Path, options: argparse.Namespace) -> RawDataset:
    """Lists the clips of the training, validation and, if it has labels, test split.

    Raises:
        UserError: if a CSV file is missing or a row of it is wrong, or no clip is there.
    """
    what = "of Kinetics-400's annotations"
    files = {
        "train": find(raw, _names("train"), _FOLDERS, what=what),
        "validation": find(
            raw, [*_names("val"), *_names("validate"), *_names("validation")], _FOLDERS, what=what
        ),
    }
    if test := find_optional(raw, _names("test"), _FOLDERS):
        files["test"] = test
    remarks, rows = [], {}
    for split, path in files.items():
        rows[split] = [(number, row) for number, row in table(path, _COLUMNS) if row.get("label")]
        if split == "test" and not rows[split]:
            remarks.append(f"{path.name} has no labels: its clips are left out")
            del rows[split]
        elif not rows[split]:
            raise UserError(f"{path}: no row has a label; is this the file with the annotations?")
    names = sorted({row["label"] for of_split in rows.values() for _, row in of_split})
    class_ids = {name: k for k, name in enumerate(names)}
    sources = sources_below(raw, _DEPTH, folders=False)

    def clips(split: str) -> Iterator[RawVideo]:
        for number, row in rows[split]:
            start, stop = (
                whole(row[key].removesuffix(".0"), f"{files[split]}, line {number}, {key}")
                for key in _COLUMNS[1:]
            )
            clip = f"{row['youtube_id']}_{start:06d}_{stop:06d}"
            yield listed(
                clip,
                sources.get(clip),
                raw / split / f"{clip}.mp4",
                {"label": class_ids[row["label"]]},
                split,
            )

    found = [clip for split in rows for clip in clips(split)]
    return dataset(
        "kinetics400", {"label": names}, found, [files[split] for split in rows], raw, remarks
    )


def _names(split: str) -> list[str]:
    return [f"{prefix}{split}.csv" for prefix in _PREFIXES]
