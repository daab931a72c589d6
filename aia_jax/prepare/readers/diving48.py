"""Diving48 with the cleaned annotations (V2): MP4 files and three JSON files.

  RAW/rgb/_8Vy3dlHg2w_00000.mp4
  RAW/Diving48_V2_train.json      [{"vid_name": "_8Vy3dlHg2w_00000", "label": 0, …}, …]
  RAW/Diving48_V2_test.json
  RAW/Diving48_vocab.json         48 names of four parts, by class id:
                                  ["Back", "15som", "05Twis", "FREE"]

The JSON files may also lie in RAW/annotations. The official test split becomes the split
"validation": there is no other, and the paper reports on it. The first annotations
(Diving48_train.json) have wrong labels and are not read.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

from aia_jax.errors import UserError
from aia_jax.prepare.annotations import parse_int, parse_name, read_json
from aia_jax.prepare.build_dataset import build_dataset, listed_video
from aia_jax.prepare.raw_dataset import RawDataset, RawVideo
from aia_jax.prepare.raw_folder import find_file, find_sources, first_folder

RECIPE = "configs/diving48.py:tsn"
_FOLDERS = ("annotations", "labels")
_DESCRIPTION = "of Diving48's annotations, version 2"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds nothing: this reader has no options of its own."""


def read(raw: Path, options: argparse.Namespace) -> RawDataset:
    """Lists the videos of the training and validation (official test) split.

    Raises:
        UserError: if an annotation file is missing or an entry of it is wrong, or no video is
            there.
    """
    vocabulary, train, test = (
        find_file(raw, [f"Diving48_{name}.json"], _FOLDERS, description=_DESCRIPTION)
        for name in ("vocab", "V2_train", "V2_test")
    )
    names = [
        " ".join(
            parse_name(part, f"{vocabulary}, entry {number}")
            for part in (parts if isinstance(parts, list) else [parts])
        )
        for number, parts in enumerate(read_json(vocabulary, list))
    ]
    folder = first_folder(raw, ["rgb", "videos"])
    sources = find_sources(folder, depth=1)

    def videos(path: Path, split: str) -> Iterator[RawVideo]:
        for number, item in enumerate(read_json(path, list)):
            where = f"{path}, entry {number}"
            if not isinstance(item, dict) or not {"vid_name", "label"} <= item.keys():
                raise UserError(
                    f"{where}: found {str(item)[:80]}, expected an object with 'vid_name' and "
                    "'label'"
                )
            name = parse_name(item["vid_name"], f"{where}, vid_name")
            label = parse_int(item["label"], where, 0, len(names))
            yield listed_video(
                name,
                sources.get(name),
                folder / f"{name}.mp4",
                {"label": label},
                split,
                row=number,
            )

    found = [*videos(train, "train"), *videos(test, "validation")]
    return build_dataset("diving48", {"label": names}, found, [vocabulary, train, test], raw)
