"""Kinetics-400: MP4 clips, flat or in class folders, and a CSV file a split.

  RAW/train.csv, RAW/val.csv (or validate.csv), and RAW/test.csv if it has labels
                label,youtube_id,time_start,time_end,split[,is_cc]
  RAW/<anywhere, up to 3 folders deep>/<youtube_id>_000010_000020.mp4

The CSV files' names may begin with kinetics_400_, kinetics-400_, kinetics400_ or k400_, and they
may lie in RAW/annotations. Class ids follow the alphabetical order of the labels. Many clips are no
longer on YouTube or were cut off in the download: missing clips are counted for each split, and
OUT/bad.txt lists them and those that cannot be read.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

from aia_jax.errors import UserError
from aia_jax.prepare.annotations import parse_int, read_table
from aia_jax.prepare.build_dataset import build_dataset, listed_video
from aia_jax.prepare.raw_dataset import RawDataset, RawVideo
from aia_jax.prepare.raw_folder import find_file, find_optional_file, find_sources

RECIPE = "configs/kinetics400.py:tsn"
_FOLDERS = ("annotations", "labels")
_PREFIXES = ("", "kinetics_400_", "kinetics-400_", "kinetics400_", "k400_")
_COLUMNS = ("youtube_id", "time_start", "time_end")
_DEPTH = 4  # RAW/videos/train/<class>/<clip>.mp4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds nothing: this reader has no options of its own."""


def read(raw: Path, options: argparse.Namespace) -> RawDataset:
    """Lists the clips of the training, validation and, if it has labels, test split.

    Raises:
        UserError: if a CSV file is missing or a row of it is wrong, or no clip is there.
    """
    description = "of Kinetics-400's annotations"
    files = {
        "train": find_file(raw, _names("train"), _FOLDERS, description=description),
        "validation": find_file(
            raw,
            [*_names("val"), *_names("validate"), *_names("validation")],
            _FOLDERS,
            description=description,
        ),
    }
    if test := find_optional_file(raw, _names("test"), _FOLDERS):
        files["test"] = test
    remarks, rows = [], {}
    for split, path in files.items():
        rows[split] = list(read_table(path, _COLUMNS))
        unlabelled = [number for number, row in rows[split] if not row.get("label")]
        if unlabelled and len(unlabelled) < len(rows[split]):
            raise UserError(
                f"{path}, line {unlabelled[0]}: nothing in the column label; fill it in, or delete "
                "the line"
            )
        if split == "test" and unlabelled:
            remarks.append(f"{path.name} has no labels: its clips are left out")
            del rows[split]
        elif unlabelled or not rows[split]:
            raise UserError(f"{path}: no row has a label; is this the file with the annotations?")
    names = sorted({row["label"] for split_rows in rows.values() for _, row in split_rows})
    class_ids = {name: k for k, name in enumerate(names)}
    sources = find_sources(raw, _DEPTH, folders=False)

    def clips(split: str) -> Iterator[RawVideo]:
        for number, row in rows[split]:
            start, stop = (
                parse_int(row[key].removesuffix(".0"), f"{files[split]}, line {number}, {key}")
                for key in _COLUMNS[1:]
            )
            clip = f"{row['youtube_id']}_{start:06d}_{stop:06d}"
            yield listed_video(
                clip,
                sources.get(clip),
                raw / split / f"{clip}.mp4",
                {"label": class_ids[row["label"]]},
                split,
                row=number,
            )

    found = [clip for split in rows for clip in clips(split)]
    return build_dataset(
        "kinetics400", {"label": names}, found, [files[split] for split in rows], raw, remarks
    )


def _names(split: str) -> list[str]:
    return [f"{prefix}{split}.csv" for prefix in _PREFIXES]
