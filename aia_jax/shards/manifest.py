"""Compares the manifest of a prepared data set with its metadata and with a run's config."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aia_jax.errors import DataError
from aia_jax.frame_geometry import Resize, is_at_size, resize_text, short_side
from aia_jax.json_file import JsonError, parse_json
from aia_jax.shards.dataset_info import DatasetInfo

# What the preparation found: options, raw videos, splits, sizes, class names.
MANIFEST = "manifest.json"
# The videos that it could not read: a line each, `path<TAB>reason`.
BAD = "bad.txt"


# What every entry of "splits" has that this program looks at, and its kind.
_SPLIT_FACTS = {"found": int, "expected": int, "missing": int, "bad": int, "shards": list}
_REMEDY = "copy it again from its source, or prepare the data again into an empty folder"


def read_manifest(folder: Path) -> dict[str, Any]:
    """Reads the manifest of a prepared data set; empty for a folder that TFDS wrote.

    Returns:
        At least "class_names" (label → names), "splits" (split → facts: counts and distributions),
        "options" and "remarks". Facts that the file lacks, as one of another program may, are left
        out.

    Raises:
        DataError: if the file cannot be read, is cut short or is no manifest; one line.
    """
    path = Path(folder) / MANIFEST
    try:
        manifest = parse_json(path.read_bytes(), dict, file_names=True)
        return _check_shape(manifest)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); {_REMEDY}") from error
    except JsonError as error:
        raise DataError(f"{path} cannot be read ({error}); {_REMEDY}") from error


def _check_shape(manifest: dict[str, Any]) -> dict[str, Any]:
    """The manifest with all keys that are used; raises `JsonError` where a value is no such one."""
    manifest = {"options": {}, "remarks": [], "class_names": {}, "splits": {}} | manifest
    for key, kind in (("options", dict), ("remarks", list), ("class_names", dict)):
        _check_kind(manifest[key], kind, key)
    for label, names in manifest["class_names"].items():
        _check_kind(names, list, f"class_names of {label}")
        for name in names:
            _check_kind(name, str, f"a class name of {label}")
    for split, facts in _check_kind(manifest["splits"], dict, "splits").items():
        if facts is None:
            continue
        _check_kind(facts, dict, f"the split {split}")
        for key, kind in _SPLIT_FACTS.items():
            if key in facts:
                _check_kind(facts[key], kind, f"{key} of the split {split}")
        for shard in facts.get("shards", []):
            _check_kind(shard, dict, f"a shard of the split {split}")
            _check_kind(shard.get("file"), str, f"the file of a shard of the split {split}")
            _check_kind(shard.get("bytes"), int, f"the bytes of a shard of the split {split}")
        for key in ("height_x_width", "sources", "missing_frame_numbers", "videos_per_class"):
            if key in facts:
                _check_kind(facts[key], dict, f"{key} of the split {split}")
    for remark in manifest["remarks"]:
        _check_kind(remark, str, "a remark")
    return manifest


def _check_kind(value: Any, kind: type, name: str) -> Any:
    if type(value) is not kind:
        raise JsonError(f"{name}: found a {type(value).__name__}, expected a {kind.__name__}")
    return value


def compare_manifest(info: DatasetInfo, splits: Sequence[str], resize: Resize) -> list[str]:
    """Checks that the manifest, the metadata and the config describe the same data.

    Args:
        info: from `open_dataset`.
        splits: those that the run uses.
        resize: the config's `data.resize`, the size of the frames that the recipe crops from; None
            or empty: the stored size.

    Returns:
        Notes for the user: videos that the preparation could not read, frames stored at another
        size than the recipe's, or without the proportions that it keeps. Empty if the folder has no
        manifest, as when TFDS wrote it.

    Raises:
        DataError: if the manifest is damaged, or its classes or its numbers of videos differ from
            the metadata's; one line.
    """
    path = Path(info.dir) / MANIFEST
    manifest = read_manifest(info.dir)
    if not manifest:
        return []
    names = tuple(manifest["class_names"].get(info.label_feature, ()))
    entries = {split: manifest["splits"].get(split) or {} for split in splits}
    found = {split: entry.get("found", 0) for split, entry in entries.items()}
    missing = {
        split: entry.get("expected", found[split]) - found[split]
        for split, entry in entries.items()
    }
    sizes = {split: entry.get("height_x_width", {}) for split, entry in entries.items()}
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
    wanted, stored = resize_text(resize), manifest["options"].get("--size")
    if short_side(resize) and re.fullmatch(r"\d+x\d+", str(stored)):
        notes.append(
            f"{info.dir}: all frames were stretched to {stored} when they were prepared; the "
            f"recipe keeps proportions (data.resize={wanted}), which only raw videos have: prepare "
            f"them again with --size {wanted}, or set "
            f"--config.data.resize={stored.replace('x', ',')}"
        )
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
        others = {
            size: count for size, count in sizes[split].items() if not _is_wanted(size, resize)
        }
        if wanted and others:
            commonest = max(others, key=others.__getitem__)
            more = f" and {len(others) - 1} other sizes" if len(others) > 1 else ""
            notes.append(
                f"{split}: {sum(others.values()):,} of {found[split]:,} videos are stored at "
                f"{commonest}{more}, the recipe resizes to {wanted} (data.resize): its crops are "
                "taken from the stored pixels in one resize, as if they had been resized first"
            )
    return notes


def _is_wanted(size: str, resize: Resize) -> bool:
    """Whether frames stored at `size`, "240x320", have the size of the recipe's resize."""
    sides = re.fullmatch(r"(\d+)x(\d+)", size)
    if sides is None:  # "other": so many sizes come of kept proportions
        return short_side(resize) is not None
    return is_at_size(int(sides[1]), int(sides[2]), resize)
