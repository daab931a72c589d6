"""Your own videos, one folder a class: in it a video file or a folder of frames for each video.

  RAW/<class>/<video>          a share of each class becomes the split "validation" (--val-share)
  RAW/train/<class>/<video>    or with the folders train, val (or validation) and test, which are
  RAW/val/<class>/<video>      the splits then

A video is a file that FFmpeg reads (.mp4, .webm, .avi, .mkv, .mov, …) or a folder of numbered .jpg
or .png frames. Class ids follow the alphabetical order of the class folders' names, all splits
taken together. A video's id is its path below the class folders' parent.
"""

import argparse
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from aia_jax.errors import UserError
from aia_jax.prepare.raw_dataset import RawDataset, RawVideo, name_after
from aia_jax.prepare.raw_folder import (
    VIDEO_SUFFIXES,
    abbreviate,
    describe_folder,
    subfolders,
    visible_entries,
)
from aia_jax.prepare.splits import SPLITS, add_val_share, check_val_share, split_off_validation
from aia_jax.video.frame_folder import PICTURE_SUFFIXES

_LAYOUT = "RAW/<class>/<video file or folder of frames>, or RAW/{train,val,test}/<class>/…"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds `--val-share`."""
    add_val_share(parser, "without split folders")


def read(raw: Path, options: argparse.Namespace) -> RawDataset:
    """Lists the videos of a folder that has one folder a class.

    Args:
        raw: the folder.
        options: with `val_share`, 0 ≤ share < 1.

    Raises:
        UserError: if there are no class folders or no videos in them, or a class has a name that a
            data set cannot have.
    """
    check_val_share(options.val_share)
    roots = _split_roots(raw)
    class_folders = {split: subfolders(root) for split, root in roots.items()}
    for split, root in roots.items():
        if not class_folders[split]:
            raise UserError(
                f"no class folders in {root}: looked for {_LAYOUT}; {describe_folder(root)}"
            )
    names = sorted({folder.name for folders in class_folders.values() for folder in folders})
    _check_names(raw, names)
    class_ids = {name: k for k, name in enumerate(names)}
    videos, left_out = [], Counter()
    for split, folders in class_folders.items():
        for folder in folders:
            videos += _list_class(folder, split, class_ids[folder.name], left_out)
    if not videos:
        raise UserError(
            f"{raw} has class folders ({abbreviate(names)}), but no videos in them: looked for "
            f"{_LAYOUT}; {describe_folder(folder)}"
        )
    if "" in roots:
        videos = split_off_validation(videos, options.val_share)
    return RawDataset(
        name_after(raw),
        {"label": tuple(names)},
        tuple(videos),
        tuple(_remarks(videos, names, left_out)),
    )


def _split_roots(raw: Path) -> dict[str, Path]:
    """The folder with the class folders of each split.

    Without split folders, the raw folder itself under the key "".
    """
    folders = subfolders(raw)
    splits = [folder for folder in folders if folder.name.lower() in SPLITS]
    others = [folder.name for folder in folders if folder not in splits]
    if not splits or (others and not any(map(_has_class_folders, splits))):
        return {"": raw}  # a class may well be called "train"
    if others:
        raise UserError(
            f"{raw} has the split folders {abbreviate([folder.name for folder in splits])} and "
            f"beside them {abbreviate(others)}: move away what is no split, or, if all are "
            "classes, rename those"
        )
    roots = {}
    for folder in splits:
        split = SPLITS[folder.name.lower()]
        if split in roots:
            raise UserError(
                f"{raw} has two folders for the split {split}: {roots[split].name} and "
                f"{folder.name}; keep one"
            )
        roots[split] = folder
    return roots


def _has_class_folders(folder: Path) -> bool:
    return any(
        path.suffix.lower() in VIDEO_SUFFIXES
        for inner in subfolders(folder)
        for path in inner.iterdir()
    )


def _list_class(folder: Path, split: str, label: int, left_out: Counter) -> list[RawVideo]:
    """The videos of a class folder; counts its other files in `left_out` by suffix."""
    videos, checked = [], False
    for entry in visible_entries(folder):
        suffix = Path(entry.name).suffix.lower()
        if entry.is_dir():
            if not checked:  # one is enough: it is about the layout
                _check_depth(Path(entry.path))
                checked = True
            size = 0
        elif suffix in VIDEO_SUFFIXES:
            # A broken link is listed too; decoding it reports it as unreadable.
            size = entry.stat().st_size if entry.is_file() else 0
        else:
            left_out[suffix or "no suffix"] += 1
            continue
        video_id = os.fsencode(f"{folder.name}/{entry.name}").decode(errors="backslashreplace")
        videos.append(RawVideo(video_id, Path(entry.path), {"label": label}, split, size))
    return sorted(videos, key=lambda video: video.video_id)


def _check_depth(folder: Path) -> None:
    """Raises an error if a folder in a class folder cannot be the frames of one video.

    With videos or folders inside it is a class folder itself, so the user meant another root.
    """
    suffixes = {path.suffix.lower() for path in folder.iterdir()}
    if not suffixes & PICTURE_SUFFIXES and (suffixes & VIDEO_SUFFIXES or subfolders(folder)):
        raise UserError(
            f"{folder} is expected to hold the frames of one video, but {describe_folder(folder)}: "
            f"the layout is {_LAYOUT}; did you mean --raw {folder.parent}?"
        )


def _remarks(videos: Sequence[RawVideo], names: Sequence[str], left_out: Counter) -> Iterable[str]:
    if left_out:
        kinds = ", ".join(f"{count} {suffix}" for suffix, count in left_out.most_common(5))
        yield f"files in class folders that are no videos, left out: {kinds}"
    empty = set(range(len(names))) - {video.labels["label"] for video in videos}
    if empty:
        shown = abbreviate([names[k] for k in sorted(empty)])
        yield f"class folders without videos, still counted as classes: {shown}"


def _check_names(raw: Path, names: Sequence[str]) -> None:
    for name in names:
        if (
            name != name.strip()
            or "\n" in name
            or any(0xDC80 <= ord(letter) <= 0xDCFF for letter in name)
        ):
            raise UserError(
                f"{raw}: the class folder {name!r} cannot name a class (space at an end, line "
                "break or not UTF-8); rename it"
            )
