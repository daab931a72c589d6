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
from aia_jax.file_tree import folder_key, is_folder
from aia_jax.prepare.build_dataset import check_class_names, remarks_on_splits
from aia_jax.prepare.raw_dataset import RawDataset, RawVideo, name_after
from aia_jax.prepare.raw_folder import (
    VIDEO_SUFFIXES,
    abbreviate,
    describe_folder,
    file_size,
    foreign_folders,
    subfolders,
    visible_entries,
)
from aia_jax.prepare.splits import (
    SPLITS,
    add_val_share,
    check_val_share,
    group_by_pattern,
    remarks_on_groups,
    split_off_validation,
)
from aia_jax.video.frame_folder import PICTURE_SUFFIXES

_LAYOUT = "RAW/<class>/<video file or folder of frames>, or RAW/{train,val,test}/<class>/…"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds `--val-share` and `--group`."""
    add_val_share(parser, "without split folders")


def read(raw: Path, options: argparse.Namespace) -> RawDataset:
    """Lists the videos of a folder that has one folder a class.

    Args:
        raw: the folder.
        options: with `val_share`, 0 ≤ share < 1, and `group`, a regular expression or None.

    Raises:
        UserError: if there are no class folders or no videos in them, a folder cannot be read, or
            the classes' names cannot be used.
    """
    check_val_share(options.val_share)
    roots = _split_roots(raw)
    class_folders = {split: _class_folders(raw, root) for split, root in roots.items()}
    for split, root in roots.items():
        if not class_folders[split]:
            raise UserError(
                f"no class folders in {root}: looked for {_LAYOUT}; {describe_folder(root)}"
            )
    names = sorted({folder.name for folders in class_folders.values() for folder in folders})
    check_class_names({"label": names}, f"the class folders of {raw}")
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
    remarks = list(_remarks(videos, names, left_out))
    if foreign := sorted(
        {name for root in {raw, *roots.values()} for name in foreign_folders(root)}
    ):
        remarks.append(f"folders that other programs made, left out: {abbreviate(foreign)}")
    groups = group_by_pattern(videos, options.group) if options.group else None
    if "" in roots:
        videos = split_off_validation(videos, options.val_share, groups)
    if groups:
        remarks += remarks_on_groups(videos, groups)
    class_names = {"label": tuple(names)}
    remarks += remarks_on_splits(class_names, videos)
    return RawDataset(name_after(raw), class_names, tuple(videos), tuple(remarks))


def _class_folders(raw: Path, root: Path) -> list[Path]:
    """The class folders of a split, without links to the folders that hold them."""
    above = {folder_key(raw), folder_key(root)}
    return [
        path for path in subfolders(root) if not path.is_symlink() or folder_key(path) not in above
    ]


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
        Path(entry.name).suffix.lower() in VIDEO_SUFFIXES
        for inner in subfolders(folder)
        for entry in visible_entries(inner)
    )


def _list_class(folder: Path, split: str, label: int, left_out: Counter) -> list[RawVideo]:
    """The videos of a class folder; counts its other files in `left_out` by suffix."""
    videos, checked = [], False
    above = {folder_key(path) for path in (folder, folder.parent, folder.parent.parent)}
    for entry in visible_entries(folder):
        suffix = Path(entry.name).suffix.lower()
        if is_folder(entry):
            if entry.is_symlink() and folder_key(entry.path) in above:
                left_out["link to a folder above"] += 1
                continue
            if not checked:  # one is enough: it is about the layout
                _check_depth(Path(entry.path))
                checked = True
            size = 0
        elif suffix in VIDEO_SUFFIXES:
            size = file_size(entry)
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
    try:
        suffixes = {Path(entry.name).suffix.lower() for entry in visible_entries(folder)}
    except UserError:
        return  # one video that cannot be read is noted in bad.txt
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
