"""The classes, splits and shards of a prepared data set, read from its TFDS metadata."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aia_jax.errors import DataError
from aia_jax.shards.index import NO_LABEL, Index

# TFDS names the file. It is written last: a folder that has it is completely prepared.
DATASET_INFO = "dataset_info.json"
_METADATA = (DATASET_INFO, "features.json")
_PREPARE = (
    "make one: python prepare_data.py DATA_SET --raw RAW_FOLDER --out {} (DATA_SET is folders for "
    "own videos; --help has the others)"
)


@dataclass(frozen=True)
class DatasetInfo:
    """A prepared data set.

    Attributes:
        name: the data set's name, as in its shards' file names.
        class_names: of the label feature, by label.
        splits: the number of videos in each split.
        dir: the folder.
        label_feature: the feature whose classes these are.
        multilabel: whether a video has a set of labels; a sequence of class labels by the metadata.
    """

    name: str
    class_names: tuple[str, ...]
    splits: dict[str, int]
    dir: Path
    label_feature: str
    multilabel: bool = False


def open_dataset(folder: str | Path, label: str = "label") -> DatasetInfo:
    """Reads a prepared data set's metadata; the shards are not touched.

    Args:
        folder: what `prepare_data.py --out` wrote, or any folder that TFDS wrote.
        label: the label feature.

    Raises:
        DataError: if the folder is missing, is not a prepared data set, or has no such label
            feature.
    """
    folder = Path(folder)
    builder = _open_builder(folder)
    class_labels, sets = _label_features(builder)
    if label not in class_labels:
        available = (
            ", ".join(sorted(class_labels))
            or f"none (its features are {', '.join(sorted(builder.info.features))})"
        )
        raise DataError(f"{folder} has no class label {label!r}; its class labels are: {available}")
    return DatasetInfo(
        name=builder.name,
        class_names=class_labels[label],
        splits={name: split.num_examples for name, split in builder.info.splits.items()},
        dir=folder,
        label_feature=label,
        multilabel=label in sets,
    )


def label_features(folder: str | Path) -> dict[str, tuple[str, ...]]:
    """The class names of every label feature of a prepared data set.

    Raises:
        DataError: as `open_dataset`, if the folder is missing or is not a prepared data set.
    """
    return _label_features(_open_builder(Path(folder)))[0]


def multilabel_features(folder: str | Path) -> frozenset[str]:
    """The label features of a prepared data set of which a video has a set."""
    return _label_features(_open_builder(Path(folder)))[1]


def _label_features(builder: Any) -> tuple[dict[str, tuple[str, ...]], frozenset[str]]:
    """The class names of every label feature, and those of the features that hold a set."""
    import tensorflow_datasets as tfds

    labels, sets = {}, set()
    for name, feature in builder.info.features.items():
        if isinstance(feature, tfds.features.Sequence):
            feature = feature.feature
            sets.add(name)
        if isinstance(feature, tfds.features.ClassLabel):
            labels[name] = tuple(feature.names)
    return labels, frozenset(sets & labels.keys())


def split_shards(folder: str | Path, split: str) -> dict[Path, int]:
    """The shards of a split in order, each with its number of records by the metadata.

    Raises:
        DataError: as `open_dataset`, if there is no such split, or if shards are missing.
    """
    shards = shard_lengths(folder, split)
    if missing := [path.name for path in shards if not path.is_file()]:
        raise DataError(
            f"{folder}, split {split}: {len(missing)} of {len(shards)} shards are missing "
            f"({', '.join(missing[:3])}{', …' if len(missing) > 3 else ''}); copy them again from "
            "their source, or prepare the data set again"
        )
    return shards


def shard_lengths(folder: str | Path, split: str) -> dict[Path, int]:
    """As `split_shards`, but does not check that the files exist."""
    folder = Path(folder)
    splits = _open_builder(folder).info.splits
    if split not in splits:
        available = ", ".join(f"{name} ({one.num_examples} videos)" for name, one in splits.items())
        raise DataError(
            f"{folder} has no split {split!r}; it has {available}: name one of them "
            "(--split, data.train_split or data.val_split)"
        )
    return {
        Path(path): length
        for path, length in zip(splits[split].filepaths, splits[split].shard_lengths, strict=True)
    }


def _open_builder(folder: Path) -> Any:
    """The TFDS builder of a prepared data set.

    TFDS is imported here, as each worker process imports this module and never needs TFDS.
    """
    _check_folder(folder)
    import tensorflow_datasets as tfds

    try:
        return tfds.builder_from_directory(folder)
    except Exception as error:  # TFDS passes on whatever its parsers raise
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"{folder}: the metadata ({', '.join(_METADATA)}) cannot be read ({reason}); prepare "
            "the data set again"
        ) from error


def _check_folder(folder: Path) -> None:
    """Raises `DataError` with a hint if the folder holds no metadata."""
    if not folder.is_dir():
        problem = "is not a folder" if folder.exists() else "does not exist"
        raise DataError(
            f"the data folder {folder} {problem}; set data.dir to a prepared data set, or "
            f"{_PREPARE.format(folder)}"
        )
    if all((folder / name).is_file() for name in _METADATA):
        return
    names = sorted(path.name for path in folder.iterdir())
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    content = f"it has {', '.join(names[:5])}{more}" if names else "it is empty"
    hint = _PREPARE.format(folder)
    if ".prepare" in names:
        hint = "its preparation has not ended: run the same prepare_data.py command again"
    elif inside := next((path.parent for path in sorted(folder.glob("*/dataset_info.json"))), None):
        hint = f"did you mean {inside}?"
    raise DataError(
        f"{folder} is not a prepared data set: looked for {' and '.join(_METADATA)}, {content}; "
        f"{hint}"
    )


def check_against_config(info: DatasetInfo, num_classes: int, indices: Mapping[str, Index]) -> int:
    """Checks a data set's classes and labels against the config, before anything is trained.

    Args:
        info: from `open_dataset`.
        num_classes: the config's `data.num_classes`; 0: as many as the data set names.
        indices: of the splits that are used, by split name.

    Returns:
        The number of classes.

    Raises:
        DataError: if the class counts differ, a split is empty, or a record's label is not one of
            the classes; one line that names the record.
    """
    found = len(info.class_names)
    if num_classes not in (0, found):
        raise DataError(
            f"{info.dir} has {found} classes, the config says data.num_classes={num_classes}; set "
            f"--config.data.num_classes={found} or data.dir to the data set that is meant"
        )
    for split, index in indices.items():
        if not len(index):
            raise DataError(
                f"{info.dir}, split {split}, holds no videos; prepare it with some, or set "
                "data.train_split or data.val_split to another split"
            )
        labels = index.labels.get(info.label_feature, np.full(len(index), NO_LABEL))
        bad = (labels < 0) | (labels >= found)
        rows, values = index.label_set(info.label_feature).entries(np.arange(len(index)))
        outside = (values < 0) | (values >= found)
        bad[rows[outside]] = True
        wrong = np.flatnonzero(bad & ~index.damaged)
        if len(wrong):
            named = values[outside & (rows == wrong[0])]
            if info.multilabel and not len(named):
                raise DataError(
                    f"{info.dir}, split {split}: {index.describe(int(wrong[0]))} has no "
                    f"{info.label_feature} ({len(wrong)} such records); where videos may have "
                    "several labels, each needs one at least. If it has, an older version wrote "
                    f"the index: delete {split}.index, and the next start writes it anew"
                )
            raise DataError(
                f"{info.dir}, split {split}: {index.describe(int(wrong[0]))} has "
                f"{info.label_feature} {named[0] if len(named) else NO_LABEL}, valid are 0 to "
                f"{found - 1} ({len(wrong)} such records); prepare the data set again"
            )
        several = np.flatnonzero(np.bincount(rows, minlength=1) > 1)
        if len(several) and not info.multilabel:
            raise DataError(
                f"{info.dir}, split {split}: {index.describe(int(several[0]))} has several values "
                f"of {info.label_feature}, by the metadata every video has one; prepare the data "
                "set again"
            )
    return found
