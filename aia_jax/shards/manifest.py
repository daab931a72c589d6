"""Compares the manifest of a prepared data set with its metadata and with a run's config."""

import json
from collections.abc import Sequence
from pathlib import Path

from aia_jax.errors import DataError
from aia_jax.shards.dataset_info import DatasetInfo

# What the preparation found: options, raw videos, splits, sizes, class names.
MANIFEST = "manifest.json"
# The videos that it could not read: a line each, `path<TAB>reason`.
BAD = "bad.txt"


def compare_manifest(
    info: DatasetInfo, splits: Sequence[str], resize: Sequence[int] | None
) -> list[str]:
    """Checks that the manifest, the metadata and the config describe the same data.

    Args:
        info: from `open_dataset`.
        splits: those that the run uses.
        resize: the config's `data.resize`, height and width of the frames that the recipe crops
            from; None or empty: the stored size.

    Returns:
        Notes for the user: videos that the preparation could not read, frames stored at another
        size than the recipe's. Empty if the folder has no manifest, as when TFDS wrote it.

    Raises:
        DataError: if the manifest is damaged, or its classes or its numbers of videos differ from
            the metadata's; one line.
    """
    path = Path(info.dir) / MANIFEST
    if not path.is_file():
        return []
    try:
        manifest = json.loads(path.read_bytes())
        names = tuple(manifest["class_names"].get(info.label_feature, ()))
        entries = {split: manifest["splits"].get(split) for split in splits}
        found = {split: entry["found"] if entry else 0 for split, entry in entries.items()}
        missing = {
            split: entry["expected"] - entry["found"] for split, entry in entries.items() if entry
        }
        sizes = {split: entry["height_x_width"] for split, entry in entries.items() if entry}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} cannot be read ({error!r}); copy it again from its source, or prepare the "
            "data again"
        ) from error
    remedy = (
        "files of two preparations are mixed in this folder: prepare the data again into an empty "
        "one"
    )
    if names != info.class_names:
        difference = f"{len(names)} and {len(info.class_names)} classes"
        for k, (ours, theirs) in enumerate(zip(names, info.class_names, strict=False)):
            if ours != theirs:
                difference = f"class {k} is {ours!r} and {theirs!r}"
                break
        raise DataError(
            f"{path} and dataset_info.json differ in the classes of {info.label_feature!r}: "
            f"{difference}; {remedy}"
        )
    notes = []
    for split in splits:
        if found[split] != info.splits.get(split):
            raise DataError(
                f"{path} counts {found[split]} videos in the split {split}, dataset_info.json "
                f"{info.splits.get(split)}; {remedy}"
            )
        if missing[split]:
            notes.append(
                f"{split}: {missing[split]:,} of {found[split] + missing[split]:,} videos were "
                f"missing or unreadable when prepared, see {path.with_name(BAD)}"
            )
        wanted = f"{resize[0]}x{resize[1]}" if resize else ""
        stored = sizes[split] or {}
        others = {size: count for size, count in stored.items() if size != wanted}
        if wanted and others:
            commonest = max(others, key=others.__getitem__)
            more = f" and {len(others) - 1} other sizes" if len(others) > 1 else ""
            notes.append(
                f"{split}: {sum(others.values()):,} of {found[split]:,} videos are stored at "
                f"{commonest}{more}, the recipe resizes to {wanted} (data.resize): its crops are "
                "taken from the stored pixels in one resize, as if they had been resized first"
            )
    return notes
