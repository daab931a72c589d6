"""Compares what manifest.json says of a prepared data set with its metadata and with a run's
config, before anything is compiled.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from aia_jax.errors import DataError
from aia_jax.shards.dataset_info import DatasetInfo


def compare_manifest(
    info: DatasetInfo, splits: Sequence[str], resize: Sequence[int] | None
) -> list[str]:
    """Looks whether the manifest, the metadata and the config describe the same data.

    Args:
        info: of `open_dataset`.
        splits: that the run uses.
        resize: the config's `data.resize`, height and width of the frames that the recipe crops
            from; None or empty: the stored size.

    Returns:
        Notes for the user: videos that the preparation could not read, frames stored at another
        size than the recipe's. Empty for a folder without a manifest, as TFDS writes it.

    Raises:
        DataError: if the manifest is damaged, or names other classes or counts other videos than
            the metadata; one line.
    """
    path = Path(info.dir) / "manifest.json"
    if not path.is_file():
        return []
    try:
        manifest = json.loads(path.read_bytes())
        names = tuple(manifest["class_names"].get(info.label_feature, ()))
        facts = {split: manifest["splits"].get(split) for split in splits}
        found = {split: of["found"] if of else 0 for split, of in facts.items()}
        lost = {split: of["expected"] - of["found"] for split, of in facts.items() if of}
        sizes = {split: of["height_x_width"] for split, of in facts.items() if of}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} cannot be read ({error!r}); copy it again from its source, or prepare the "
            "data again"
        ) from error
    again = "files of two preparations are mixed in this folder: prepare the data again into an empty one"
    if names != info.class_names:
        other = next(
            (
                f"class {k} is {a!r} and {b!r}"
                for k, (a, b) in enumerate(zip(names, info.class_names, strict=False))
                if a != b
            ),
            "",
        )
        counts = f"{len(names)} and {len(info.class_names)} classes"
        raise DataError(
            f"{path} and dataset_info.json differ in the classes of {info.label_feature!r}: "
            f"{other or counts}; {again}"
        )
    notes = []
    for split in splits:
        if found[split] != info.splits.get(split):
            there = info.splits.get(split)
            raise DataError(
                f"{path} counts {found[split]} videos in the split {split}, dataset_info.json "
                f"{there}; {again}"
            )
        if lost[split]:
            total, listed = found[split] + lost[split], path.with_name("bad.txt")
            notes.append(
                f"{split}: {lost[split]:,} of {total:,} videos were missing or unreadable when "
                f"prepared, see {listed}"
            )
        wanted = f"{resize[0]}x{resize[1]}" if resize else ""
        if (
            wanted
            and sizes[split]
            and (others := {size: count for size, count in sizes[split].items() if size != wanted})
        ):
            most = max(others, key=others.__getitem__)
            more = f" and {len(others) - 1} other sizes" if len(others) > 1 else ""
            notes.append(
                f"{split}: {sum(others.values()):,} of {found[split]:,} videos are stored at "
                f"{most}{more}, the recipe resizes to {wanted} "
                "(data.resize): its crops are taken from the stored pixels in one resize, as if "
                "they had been resized first"
            )
    return notes
