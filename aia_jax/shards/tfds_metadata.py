"""Writes the TFDS metadata beside finished shards, without TensorFlow.

`tfds.builder_from_directory(folder)` then opens them.
"""

import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from aia_jax.errors import DataError
from aia_jax.files import sync_folder
from aia_jax.shards import example
from aia_jax.shards.class_names import find_name_problem
from aia_jax.shards.dataset_info import DATASET_INFO


def shard_name(name: str, split: str, number: int, count: int) -> str:
    """The file name that TFDS gives shard `number` (from 0) of `count`."""
    return f"{name}-{split}.tfrecord-{number:05d}-of-{count:05d}"


def write_metadata(
    folder: str | Path,
    *,
    name: str,
    class_names: Mapping[str, Sequence[str]],
    shard_lengths: Mapping[str, Sequence[int]],
    description: str = "",
    label_sets: Iterable[str] = (),
) -> None:
    """Describes the shards of a folder for TFDS.

    Each file appears whole or not at all, `dataset_info.json` last.

    Args:
        folder: holds the shards, named as `shard_name` says.
        name: the data set's name.
        class_names: by label feature, the names in the order of the labels, as `{"label": ["Closing
            something", …]}`.
        shard_lengths: by split, the number of records in each shard.
        description: a line for the reader of the metadata.
        label_sets: the label features of which a video may have several values.

    Raises:
        DataError: if TFDS would not return the class names unchanged (an empty or repeated name,
            one with a control character or a space at an end), or refuses the data set's name.
        FileNotFoundError: if a shard is missing.
    """
    folder = Path(folder)
    if not re.fullmatch(r"[A-Za-z]\w*", name):
        raise DataError(
            f"the data set cannot be named {name!r}: TFDS wants a letter, then letters, digits and "
            "_ (it is part of file names)"
        )
    features = {
        example.FRAMES: tfds.features.Sequence(
            tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg")
        ),
        example.VIDEO_ID: tfds.features.Text(),
        example.NUM_FRAMES: np.int64,
        example.FPS: np.float32,
        example.HEIGHT: np.int64,
        example.WIDTH: np.int64,
    }
    for label, names in class_names.items():
        _check_names(names)
        features[label] = tfds.features.ClassLabel(names=list(names))
        if label in label_sets:
            features[label] = tfds.features.Sequence(features[label])
    # Always the same name, so that the next run removes what a killed run left.
    temporary = folder / ".metadata.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        splits = []
        for split, lengths in shard_lengths.items():
            paths = [
                folder / shard_name(name, split, number, len(lengths))
                for number in range(len(lengths))
            ]
            for path in paths:
                (temporary / path.name).touch()  # TFDS reads only the names of the shards
            template = tfds.core.ShardedFileTemplate(
                temporary, dataset_name=name, split=split, filetype_suffix="tfrecord"
            )
            num_bytes = sum(path.stat().st_size for path in paths)
            splits.append(
                tfds.core.SplitInfo(
                    name=split,
                    shard_lengths=list(lengths),
                    num_bytes=num_bytes,
                    filename_template=template,
                )
            )
        tfds.folder_dataset.write_metadata(
            data_dir=temporary,
            features=features,
            split_infos=splits,
            version="1.0.0",
            check_data=False,
            description=description,
        )
        written = [path for path in temporary.iterdir() if path.suffix in (".json", ".txt")]
        for path in sorted(written, key=lambda path: path.name == DATASET_INFO):
            with path.open("rb") as file:
                os.fsync(file.fileno())
            path.replace(folder / path.name)
        sync_folder(folder)
    finally:
        shutil.rmtree(temporary)


def _check_names(names: Sequence[str]) -> None:
    for k, name in enumerate(names):
        if problem := find_name_problem(name):
            raise DataError(
                f"class {k} is named {name!r} ({problem}): a class name is one line of text "
                "without spaces at its ends"
            )
    if len(set(names)) < len(names):
        twice = next(name for k, name in enumerate(names) if name in names[:k])
        raise DataError(f"two classes are named {twice!r}; give each its own name")
