"""What a prepared data set is: its classes, splits and shards, read from the TFDS metadata beside
them.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aia_jax.errors import DataError
from aia_jax.shards.index import NO_LABEL, Index

_METADATA = ("dataset_info.json", "features.json")
_PREPARE = "make one: python prepare_data.py DATA_SET --raw RAW_FOLDER --out {} (DATA_SET is folders for own videos; --help has the others)"
_SIDE = re.compile(
    r"(?<![^\W\d_])(left|right)(?![^\W\d_])", re.IGNORECASE
)  # between letters it is part of another word ("upright")


@dataclass(frozen=True)
class DatasetInfo:
    """A prepared data set.

    Attributes:
        name: the data set's name, as in its shards' file names.
        class_names: of the label feature, by label.
        splits: the number of videos in each split.
        dir: the folder.
        label_feature: the feature whose classes these are.
    """

    name: str
    class_names: tuple[str, ...]
    splits: dict[str, int]
    dir: Path
    label_feature: str


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
    builder = _builder(folder)
    class_labels = _label_features(builder)
    if label not in class_labels:
        there = (
            ", ".join(sorted(class_labels))
            or f"none (its features are {', '.join(sorted(builder.info.features))})"
        )
        raise DataError(f"{folder} has no class label {label!r}; its class labels are: {there}")
    return DatasetInfo(
        name=builder.name,
        class_names=class_labels[label],
        splits={name: split.num_examples for name, split in builder.info.splits.items()},
        dir=folder,
        label_feature=label,
    )


def label_features(folder: str | Path) -> dict[str, tuple[str, ...]]:
    """The class names of every label feature of a prepared data set; `DataError` as `open_dataset`."""
    return _label_features(_builder(Path(folder)))


def _label_features(builder: Any) -> dict[str, tuple[str, ...]]:
    import tensorflow_datasets as tfds

    labels = {
        name: feature
        for name, feature in builder.info.features.items()
        if isinstance(feature, tfds.features.ClassLabel)
    }
    return {name: tuple(feature.names) for name, feature in labels.items()}


def split_shards(folder: str | Path, split: str) -> dict[Path, int]:
    """The shards of a split in order, each with the number of records that the metadata says it
    holds.

    Raises:
        DataError: as `open_dataset`, if there is no such split, or if shards are missing.
    """
    shards = shard_lengths(folder, split)
    if missing := [path.name for path in shards if not path.is_file()]:
        raise DataError(
            f"{folder}, split {split}: {len(missing)} of {len(shards)} shards are missing "
            f"({', '.join(missing[:3])}"
            f"{', …' if len(missing) > 3 else ''}); copy them again from their source, or prepare "
            "the data set again"
        )
    return shards


def shard_lengths(folder: str | Path, split: str) -> dict[Path, int]:
    """As `split_shards`, but without looking whether the files are there."""
    folder = Path(folder)
    splits = _builder(folder).info.splits
    if split not in splits:
        there = ", ".join(f"{name} ({one.num_examples} videos)" for name, one in splits.items())
        raise DataError(
            f"{folder} has no split {split!r}; it has {there}: set data.train_split or "
            "data.val_split to one of them"
        )
    return {
        Path(path): length
        for path, length in zip(splits[split].filepaths, splits[split].shard_lengths, strict=True)
    }


def _builder(folder: Path) -> Any:
    """The TFDS builder. TFDS is imported here: each worker process imports this module, and would
    wait for what it never uses.
    """
    _check_folder(folder)
    import tensorflow_datasets as tfds

    try:
        return tfds.builder_from_directory(folder)
    except Exception as error:  # TFDS raises what its parsers raise
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"{folder}: the metadata ({', '.join(_METADATA)}) cannot be read ({reason}); prepare "
            "the data set again"
        ) from error


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise DataError(
            f"the data folder {folder} {what}; set data.dir to a prepared data set, or "
            f"{_PREPARE.format(folder)}"
        )
    if all((folder / name).is_file() for name in _METADATA):
        return
    names = sorted(path.name for path in folder.iterdir())
    has = (
        f"it has {', '.join(names[:5])}{f' and {len(names) - 5} more' if len(names) > 5 else ''}"
        if names
        else "it is empty"
    )
    hint = _PREPARE.format(folder)
    if ".prepare" in names:
        hint = "its preparation has not ended: run the same prepare_data.py command again"
    elif inside := next((path.parent for path in sorted(folder.glob("*/dataset_info.json"))), None):
        hint = f"did you mean {inside}?"
    raise DataError(
        f"{folder} is not a prepared data set: looked for {' and '.join(_METADATA)}, {has}; {hint}"
    )


def check_against_config(info: DatasetInfo, num_classes: int, indices: Mapping[str, Index]) -> None:
    """Compares a data set with what the config says of it, before anything is trained.

    Args:
        info: of `open_dataset`.
        num_classes: the config's `data.num_classes`.
        indices: of the splits that are used, by split name.

    Raises:
        DataError: if the class counts differ, or a record's label is not one of the classes; one
            line that names the record.
    """
    if len(info.class_names) != num_classes:
        raise DataError(
            f"{info.dir} has {len(info.class_names)} classes, the config says "
            f"data.num_classes={num_classes}; "
            f"set --config.data.num_classes={len(info.class_names)} or data.dir to the data set "
            "that is meant"
        )
    for split, index in indices.items():
        labels = index.labels.get(info.label_feature, np.full(len(index), NO_LABEL))
        wrong = np.flatnonzero(((labels < 0) | (labels >= num_classes)) & ~index.damaged)
        if len(wrong):
            raise DataError(
                f"{info.dir}, split {split}: {index.describe(int(wrong[0]))} has "
                f"{info.label_feature} {labels[wrong[0]]}, "
                f"valid are 0 to {num_classes - 1} ({len(wrong)} such records); prepare the data "
                "set again"
            )


@dataclass(frozen=True, eq=False)
class FlipRule:
    """What becomes of a label when its video is mirrored.

    Attributes:
        partner: int64 [classes]: the label after the flip; the class itself when its name has no
            side; -1 for a class that names a side and has no partner: its videos are never flipped.
    """

    partner: np.ndarray

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """The labels that a flip swaps, each pair once, the smaller first."""
        return [(k, int(other)) for k, other in enumerate(self.partner) if other > k]


def flip_pairs(class_names: Sequence[str]) -> FlipRule:
    """Derives from the class names which labels a horizontal flip swaps: "… from left to right" ↔
    "… from right to left".

    Only whole words count, in any case: "upright" names no side, "move_left" does.
    """
    place = {}
    for k, name in enumerate(class_names):
        place.setdefault(_folded(name), []).append(k)
    partner = np.arange(len(class_names))
    for k, name in enumerate(class_names):
        if _SIDE.search(name):
            found = place.get(_folded(_SIDE.sub(_other_side, name)), [])
            alone = len(found) == 1 and len(place[_folded(name)]) == 1
            partner[k] = found[0] if alone else -1
    return FlipRule(partner)


def _other_side(word: re.Match) -> str:
    return "left" if word[0].lower() == "right" else "right"


def _folded(name: str) -> str:
    return " ".join(name.casefold().split())
