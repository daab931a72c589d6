"""Something-Something V1, as its archive parts unpack: folders of JPEG frames and three CSV files.

  RAW/something-something-v1-labels.csv          one class a line: 174, and their order is that of
  the class ids RAW/something-something-v1-train.csv           "100218;Something falling like a
  feather or paper" RAW/something-something-v1-validation.csv
  RAW/20bn-something-something-v1/100218/00001.jpg

The CSV files may also lie in RAW/labels or RAW/annotations. The test videos have no public labels
and are left out. Class ids differ from V2's, whose order is another one. The frames are about 100
pixels high; --size 240x320 (the default) is what the recipe works on.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

from aia_jax.errors import UserError
from aia_jax.prepare.annotations import dataset, find, folder_of, lines, listed, sources_below
from aia_jax.prepare.item import RawDataset, RawVideo

_FOLDERS = ("labels", "annotations")
_WHAT = "of Something-Something V1's labels"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """This reader has no options of its own."""


def read(raw: Path, options: argparse.Namespace) -> RawDataset:
    """Lists the videos of the training and validation split.

    Raises:
        UserError: if an annotation file is missing or a line of it is wrong, or no video is there.
    """
    labels, train, validation = (
        find(raw, [f"something-something-v1-{name}.csv"], _FOLDERS, what=_WHAT)
        for name in ("labels", "train", "validation")
    )
    names = [line for _, line in lines(labels)]
    class_ids = {name: k for k, name in enumerate(names)}
    frames = folder_of(raw, ["20bn-something-something-v1"])
    sources = sources_below(frames, depth=1)

    def videos(path: Path, split: str) -> Iterator[RawVideo]:
        for number, line in lines(path):
            video_id, separator, name = line.partition(";")
            if not separator or name not in class_ids:
                raise UserError(
                    f"{path}, line {number}: found {line!r}, expected ID;CLASS with a class of "
                    f"{labels.name}"
                )
            yield listed(
                video_id,
                sources.get(video_id),
                frames / video_id,
                {"label": class_ids[name]},
                split,
            )

    found = [*videos(train, "train"), *videos(validation, "validation")]
    return dataset("ssv1", {"label": names}, found, [labels, train, validation], raw)
