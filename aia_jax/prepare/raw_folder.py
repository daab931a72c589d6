"""Searches raw folders: for annotation files, for videos by name, and for the text of errors."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from aia_jax.errors import UserError

VIDEO_SUFFIXES = frozenset(
    (
        *(".mp4", ".m4v", ".webm", ".avi", ".mkv", ".mov", ".mpg", ".mpeg"),
        *(".wmv", ".flv", ".3gp", ".ts", ".mts", ".m2ts", ".ogv"),
    )
)


class Source(NamedTuple):
    """A video file with its size in bytes, or a folder of frames with the size 0."""

    path: Path
    size: int


def find_file(
    raw: Path, names: Sequence[str], folders: Sequence[str] = (), *, description: str
) -> Path:
    """Finds an annotation file under one of several names, in `raw` or in one of its folders.

    Args:
        raw: the data set's folder.
        names: of the file, the likeliest first.
        folders: below `raw`, where the file may lie too.
        description: of the file, and where it comes from; for the error.

    Raises:
        UserError: if there is none; it says what was looked for and what the folder has.
    """
    if path := find_optional_file(raw, names, folders):
        return path
    searched = [str(raw), *(str(raw / folder) for folder in folders)]
    hint = next(
        (
            f"; did you mean --raw {inner}?"
            for inner in subfolders(raw)
            if find_optional_file(inner, names, folders)
        ),
        "",
    )
    raise UserError(
        f"no {' or '.join(names)} ({description}): looked in {', '.join(searched)}; "
        f"{describe_folder(raw)}{hint}"
    )


def find_optional_file(raw: Path, names: Sequence[str], folders: Sequence[str] = ()) -> Path | None:
    """Finds a file as `find_file` does; returns None if there is none."""
    paths = (
        folder / name for folder in (raw, *(raw / folder for folder in folders)) for name in names
    )
    return next((path for path in paths if path.is_file()), None)


def find_option_file(raw: Path, name: str, option: str) -> Path:
    """Finds the file that an option names, relative to the raw folder or to the current one.

    Raises:
        UserError: if it is not there.
    """
    for path in (raw / name, Path(name)):
        if path.is_file():
            return path.resolve()
    raise UserError(
        f"{option} {name}: there is no such file, neither in {raw} nor in the current folder"
    )


def first_folder(raw: Path, names: Sequence[str]) -> Path:
    """The first of these folders of `raw` that exists, else `raw` itself."""
    return next((raw / name for name in names if (raw / name).is_dir()), raw)


def find_source(path: Path) -> Source | None:
    """The video file, archive or folder of frames at a path; None if there is none."""
    if path.is_dir():
        return Source(path, 0)
    return Source(path, path.stat().st_size) if path.is_file() else None


def find_sources(root: Path, depth: int, folders: bool = True) -> dict[str, Source]:
    """Finds video files and folders of frames below `root`.

    Args:
        root: where the search begins.
        depth: how many levels down video files may lie; 1: only in `root` itself.
        folders: whether the folders at that depth count as folders of frames.

    Returns:
        Files by their names without suffix, folders by their names. Of two with one name, it has
        the first in alphabetical order.
    """
    found: dict[str, Source] = {}
    for entry in visible_entries(root):
        stem, suffix = Path(entry.name).stem, Path(entry.name).suffix
        if entry.is_dir():
            if depth > 1:
                for name, source in find_sources(Path(entry.path), depth - 1, folders).items():
                    found.setdefault(name, source)
            elif folders:
                found.setdefault(entry.name, Source(Path(entry.path), 0))
        elif suffix.lower() in VIDEO_SUFFIXES:
            # A broken link is listed too; decoding it reports it as unreadable.
            size = entry.stat().st_size if entry.is_file() else 0
            found.setdefault(stem, Source(Path(entry.path), size))
    return found


def visible_entries(folder: Path) -> list[os.DirEntry]:
    """The entries of a folder that are not hidden, by name."""
    with os.scandir(folder) as entries:
        visible = [entry for entry in entries if not entry.name.startswith(".")]
    return sorted(visible, key=lambda entry: entry.name)


def subfolders(folder: Path) -> list[Path]:
    """The folders inside, by name; without hidden ones and the __MACOSX of macOS archives."""
    with os.scandir(folder) as entries:
        return sorted(
            Path(entry.path)
            for entry in entries
            if entry.is_dir() and not entry.name.startswith((".", "__MACOSX"))
        )


def describe_folder(folder: Path) -> str:
    """Lists a folder for an error, as "raw/a has 1.txt, 2.txt, b/, c/ and 4 more"."""
    with os.scandir(folder) as entries:
        names = sorted(entry.name + "/" * entry.is_dir() for entry in entries)
    return f"{folder} has {abbreviate(names)}" if names else f"{folder} is empty"


def abbreviate(names: Sequence[str], most: int = 4) -> str:
    """Joins the first `most` names and says how many more there are."""
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
