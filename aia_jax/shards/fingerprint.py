"""What a split holds, in a few digests that stay the same wherever its folder lies.

A checkpoint keeps them, so that a run cannot go on, or be tested, with other data unnoticed.
"""

import hashlib
import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from aia_jax.errors import DataError
from aia_jax.shards.dataset_info import DatasetInfo
from aia_jax.shards.index import NO_LABEL, Index
from aia_jax.shards.manifest import MANIFEST

_DIGITS = 16  # hexadecimal, of a digest
# Options of prepare_data.py that say how frames are stored.
_STORED = ("--size", "--quality", "--frames")


def fingerprint(index: Index, label: str) -> dict[str, Any]:
    """Computes the fingerprint of a split from its index; the shards are not read.

    It takes about 1 ms for a thousand videos of 40 frames.

    Args:
        index: of the split.
        label: the label feature that is used.

    Returns:
        Values for JSON: the numbers of "videos" and of "damaged" ones, and a digest each of the
        "ids" in any order, of their "order", of the "labels" in that order, and of the "pictures":
        number and checksums of every video's frames.
    """
    starts, content = index.video_id_start.tolist(), index.video_id_bytes.tobytes()
    ids = [content[start:stop] for start, stop in itertools.pairwise(starts)]
    labels = [index.labels.get(label, np.full(len(index), NO_LABEL))]
    if label in index.label_sets:
        labels += index.label_sets[label]
    return {
        "videos": len(index),
        "damaged": int(index.damaged.sum()),
        "ids": _digest(b"\n".join(sorted(ids))),
        "order": _digest(b"\n".join(ids)),
        "labels": _digest(*(np.ascontiguousarray(column, "<i8") for column in labels)),
        "pictures": _digest(
            np.ascontiguousarray(index.first_frame, "<i8"),
            np.ascontiguousarray(index.frame_crc, "<u4"),
        ),
    }


def find_difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Says how a split differs from what it was; empty if it does not.

    Args:
        before: a fingerprint; parts that it lacks are not compared.
        now: a fingerprint.
    """
    differing = {part for part in before if before[part] != now.get(part)}
    if "videos" in differing:
        return f"it had {before['videos']:,} videos, now it has {now['videos']:,}"
    if "ids" in differing:
        return f"its {now['videos']:,} videos are others than they were"
    if "order" in differing:
        return "its videos are in another order than they were"
    if "damaged" in differing:
        return (
            f"{now['damaged']:,} of its records are damaged, {before['damaged']:,} were; copy the "
            "shards again from their source"
        )
    if "labels" in differing:
        return "the same videos have other labels than they had"
    if "pictures" in differing:
        return "the same videos have other pictures than they had (prepared in another way)"
    return ""


def short_text(parts: Mapping[str, Any]) -> str:
    """One text that is the same for equal fingerprints, for result files."""
    return _digest(json.dumps(dict(parts), sort_keys=True).encode())


def describe_data(info: DatasetInfo, indices: Mapping[str, Index]) -> dict[str, Any]:
    """Collects what a checkpoint keeps of the data that its run uses.

    Args:
        info: from `open_dataset`.
        indices: of the splits that are used, by split name.

    Returns:
        Values for JSON: "dir", the whole path of the folder; "options", those of prepare_data.py
        that say how frames are stored, {} where the folder has no manifest; "splits", the
        fingerprint of each split.
    """
    return {
        "dir": str(Path(info.dir).resolve()),
        "options": stored_options(Path(info.dir)),
        "splits": {name: fingerprint(index, info.label_feature) for name, index in indices.items()},
    }


def stored_options(folder: Path) -> dict[str, Any]:
    """How the frames of a prepared data set are stored, by its manifest; {} without one."""
    try:
        options = json.loads((folder / MANIFEST).read_bytes())["options"]
        return {name: options[name] for name in _STORED if options.get(name)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def compare_data(
    before: Mapping[str, Any], now: Mapping[str, Any], *, on_purpose: bool = False
) -> list[str]:
    """Compares the data that a checkpoint was trained on with those that are to be used.

    Args:
        before: what `describe_data` gave for the checkpoint; {} for one of an older version.
        now: what it gives for the data; a split is compared if both have it.
        on_purpose: whether other data are meant.

    Returns:
        Notes for the user.

    Raises:
        DataError: the data are others and that is not meant; says what differs.
    """
    if not before:
        return [
            "the checkpoint is of an older version, which did not keep what its data were: whether "
            f"those in {now['dir']} are the same is not known"
        ]
    notes = []
    for split, found in now["splits"].items():
        difference = find_difference(before["splits"].get(split, {}), found)
        if difference and not on_purpose:
            raise DataError(
                f"{now['dir']}, split {split}, does not hold the data that the run was trained "
                f"with: {difference}; set data.dir to the run's data (they were in "
                f"{before['dir']}), or mean it with --config.data.changed_on_purpose=true"
            )
        if difference:
            notes.append(
                f"{now['dir']}, split {split}, is not what the run was trained with: {difference}"
            )
    return notes


def _digest(*contents: bytes | np.ndarray) -> str:
    found = hashlib.sha256()
    for content in contents:
        found.update(content)
    return found.hexdigest()[:_DIGITS]
