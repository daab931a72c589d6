"""Something-Something V2: WebM files, and JSON files in either generation of names.

  RAW/20bn-something-something-v2/78687.webm
  RAW/something-something-v2-{labels,train,validation}.json          the older download, or
  RAW/labels/{labels,train,validation}.json and test-answers.csv     the newer one

labels.json gives each class its id ({"Approaching something with your camera": "0", …}); the others
are lists of {"id": "78687", "template": "Holding [something] next to [something]", …}: 168,913
training and 24,777 validation videos of 174 classes. With test-answers.csv ("1420;Class name")
there is also a split "test"; --splits train validation leaves it out.
"""

import argparse
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aia_jax.errors import UserError
from aia_jax.prepare.annotations import (
    number_classes,
    parse_name,
    read_json,
    read_lines,
    show_value,
)
from aia_jax.prepare.build_dataset import build_dataset, listed_video
from aia_jax.prepare.raw_dataset import RawDataset, RawVideo
from aia_jax.prepare.raw_folder import (
    find_file,
    find_optional_file,
    find_sources,
    first_folder,
)

RECIPE = "configs/ssv2.py:tsn"
_FOLDERS = ("labels", "annotations")
_DESCRIPTION = "of Something-Something V2's labels"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds nothing: this reader has no options of its own."""


def read(raw: Path, options: argparse.Namespace) -> RawDataset:
    """Lists the videos of the training, validation and, where its answers are there, test split.

    Raises:
        UserError: if an annotation file is missing or an entry of it is wrong, or no video is
            there.
    """
    labels, train, validation = (
        find_file(
            raw,
            [f"something-something-v2-{name}.json", f"{name}.json"],
            _FOLDERS,
            description=_DESCRIPTION,
        )
        for name in ("labels", "train", "validation")
    )
    answers = find_optional_file(
        raw, ["test-answers.csv", "something-something-v2-test-answers.csv"], _FOLDERS
    )
    names = number_classes(
        labels, ((k, name, f"{labels}, {name!r}") for name, k in read_json(labels, dict).items()), 0
    )
    class_ids = {name: k for k, name in enumerate(names)}
    folder = first_folder(raw, ["20bn-something-something-v2"])
    sources = find_sources(folder, depth=1)

    def video(video_id: str, name: str, split: str, where: str, row: int) -> RawVideo:
        if name not in class_ids:
            raise UserError(
                f"{where}: there is no class {show_value(name)} in {labels}; are the two of one "
                "download?"
            )
        return listed_video(
            video_id,
            sources.get(video_id),
            folder / f"{video_id}.webm",
            {"label": class_ids[name]},
            split,
            row=row,
        )

    def videos(path: Path, split: str) -> Iterator[RawVideo]:
        for number, item in enumerate(read_json(path, list)):
            where = f"{path}, entry {number}"
            yield video(
                _field(item, "id", where),
                re.sub(r"[\[\]]", "", _field(item, "template", where)),
                split,
                where,
                number,
            )

    found = [*videos(train, "train"), *videos(validation, "validation")]
    files = [labels, train, validation]
    if answers:
        for number, line in read_lines(answers):
            video_id, _, name = line.partition(";")
            where = f"{answers}, line {number}"
            found.append(video(parse_name(video_id, where), name, "test", where, number))
        files.append(answers)
    return build_dataset("ssv2", {"label": names}, found, files, raw)


def _field(item: Any, key: str, where: str) -> str:
    if not isinstance(item, dict) or key not in item:
        raise UserError(f"{where}: found {str(item)[:80]}, expected an object with {key!r}")
    return parse_name(item[key], f"{where}, {key}")
