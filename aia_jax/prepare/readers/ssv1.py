"""Something-Something V1, as its archive parts unpack: folders of JPEG frames and three CSV files.

  RAW/something-something-v1-labels.csv       174 classes, one a line, in the order of their ids
  RAW/something-something-v1-train.csv        "100218;Something falling like a feather or paper"
  RAW/something-something-v1-validation.csv
  RAW/20bn-something-something-v1/100218/00001.jpg

The CSV files may also lie in RAW/labels or RAW/annotations. The test videos have no public labels
and are left out. The class ids are not those of V2, which orders the classes differently. The
frames are about 100 pixels high; --size 240x320 (the default) is what the recipe works on.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

from aia_jax.errors import UserError
from aia_jax.prepare.annotations import read_lines, read_names, show_value
from aia_jax.prepare.build_dataset import build_dataset, listed_video
from aia_jax.prepare.raw_dataset import RawDataset, RawVideo
from aia_jax.prepare.raw_folder import find_file, find_sources, first_folder

RECIPE = "configs/ssv1.py:tsn"
_FOLDERS = ("labels", "annotations")
_DESCRIPTION = "of Something-Something V1's labels"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds nothing: this reader has no options of its own."""


def read(raw: Path, options: argparse.Namespace) -> RawDataset:
    """Lists the videos of the training and validation split.

    Raises:
        UserError: if an annotation file is missing or a line of it is wrong, or no video is there.
    """
    labels, train, validation = (
        find_file(raw, [f"something-something-v1-{name}.csv"], _FOLDERS, description=_DESCRIPTION)
        for name in ("labels", "train", "validation")
    )
    names = read_names(labels)
    class_ids = {name: k for k, name in enumerate(names)}
    frames = first_folder(raw, ["20bn-something-something-v1"])
    sources = find_sources(frames, depth=1)

    def videos(path: Path, split: str) -> Iterator[RawVideo]:
        for number, line in read_lines(path):
            video_id, separator, name = line.partition(";")
            if not separator or not video_id or name not in class_ids:
                raise UserError(
                    f"{path}, line {number}: found {show_value(line)}, expected ID;CLASS with a "
                    f"class of {labels.name}"
                )
            yield listed_video(
                video_id,
                sources.get(video_id),
                frames / video_id,
                {"label": class_ids[name]},
                split,
                row=number,
            )

    found = [*videos(train, "train"), *videos(validation, "validation")]
    return build_dataset("ssv1", {"label": names}, found, [labels, train, validation], raw)
