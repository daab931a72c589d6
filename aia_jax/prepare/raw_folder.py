"""Searches raw folders: for annotation files, for videos by name, and for the text of errors."""

import os
import re
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from aia_jax.errors import UserError
from aia_jax.file_tree import folder_key, is_folder
from aia_jax.shards.class_names import quote_name

VIDEO_SUFFIXES = frozenset(
    (
        *(".mp4", ".m4v", ".webm", ".avi", ".mkv", ".mov", ".mpg", ".mpeg"),
        *(".wmv", ".flv", ".3gp", ".ts", ".mts", ".m2ts", ".ogv", ".gif"),
    )
)
# Folders that other programs make beside a user's own: thumbnails, waste bins, archives' extras.
_FOREIGN_FOLDERS = frozenset(
    (
        *("@eadir", "#recycle", "#snapshot", "$recycle.bin", "recycler", "thumbs", "__macosx"),
        *("system volume information", "lost+found", "__pycache__"),
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
    return next((path for path in paths if os.path.isfile(path)), None)  # noqa: PTH113


def find_option_file(raw: Path, name: str, option: str) -> Path:
    """Finds the file that an option names, relative to the raw folder or to the current one.

    Raises:
        UserError: if it is not there.
    """
    for path in (raw / name, Path(name)):
        if os.path.isfile(path):  # noqa: PTH113 (False also for a name that is too long)
            return path.resolve()
    raise UserError(
        f"{option} {name}: there is no such file, neither in {raw} nor in the current folder"
    )


def first_folder(raw: Path, names: Sequence[str]) -> Path:
    """The first of these folders of `raw` that exists, else `raw` itself."""
    return next((raw / name for name in names if (raw / name).is_dir()), raw)


def find_source(path: Path) -> Source | None:
    """The video file, archive or folder of frames at a path; None if there is none.

    What is there and cannot be looked at is found too: decoding it says why.
    """
    try:
        status = path.stat()
    except PermissionError:
        return Source(path, 0)
    except (OSError, ValueError):  # also of a path that is longer than the system allows
        return None
    if stat.S_ISDIR(status.st_mode):
        return Source(path, 0)
    return Source(path, status.st_size) if stat.S_ISREG(status.st_mode) else None


def find_listed_source(raw: Path, name: str) -> tuple[str, Source | None]:
    """The source that a list names, as people write it: also in quotes, or with backslashes.

    Returns:
        The name as it is understood, and the source; None if it is missing.
    """
    names = [name]
    if re.fullmatch(r'"[^"]+"|\'[^\']+\'', name):
        names.append(name[1:-1])
    names += [other.replace("\\", "/") for other in names if "\\" in other]
    for other in names:
        if source := find_source(raw / other):
            return other, source
    return names[-1], None


def find_sources(root: Path, depth: int, folders: bool = True) -> dict[str, Source]:
    """Finds video files and folders of frames below `root`.

    Args:
        root: where the search begins.
        depth: how many levels down video files may lie; 1: only in `root` itself.
        folders: whether the folders at that depth count as folders of frames.

    Returns:
        Files by their names without suffix, folders by their names. Of two with one name, it has
        the first in alphabetical order.

    Raises:
        UserError: if a folder cannot be read.
    """
    return _find_sources(root, depth, folders, frozenset())


def _find_sources(
    root: Path, depth: int, folders: bool, above: frozenset[tuple[int, int] | None]
) -> dict[str, Source]:
    found: dict[str, Source] = {}
    above |= {folder_key(root)}
    for entry in visible_entries(root):
        stem, suffix = Path(entry.name).stem, Path(entry.name).suffix
        if is_folder(entry):
            if depth > 1:
                if folder_key(entry.path) in above:  # a link to a folder above
                    continue
                inner = _find_sources(Path(entry.path), depth - 1, folders, above)
                for name, source in inner.items():
                    found.setdefault(name, source)
            elif folders:
                found.setdefault(entry.name, Source(Path(entry.path), 0))
        elif suffix.lower() in VIDEO_SUFFIXES:
            found.setdefault(stem, Source(Path(entry.path), file_size(entry)))
    return found


def file_size(entry: os.DirEntry) -> int:
    """Bytes of a file; 0 for a broken link, which is listed too: decoding reports it."""
    try:
        return entry.stat().st_size if entry.is_file() else 0
    except OSError:
        return 0


def visible_entries(folder: Path) -> list[os.DirEntry]:
    """The entries of a folder by name, without hidden ones and folders that other programs made.

    Raises:
        UserError: if the folder cannot be read.
    """
    return [entry for entry in _entries(folder) if not is_foreign(entry)]


def is_foreign(entry: os.DirEntry) -> bool:
    """Whether an entry is hidden, or a folder that no user makes, as "@eaDir" or "__MACOSX"."""
    name = entry.name
    return name.startswith(".") or (
        (name.lower() in _FOREIGN_FOLDERS or name.startswith("__MACOSX")) and is_folder(entry)
    )


def subfolders(folder: Path) -> list[Path]:
    """The folders inside, by name; without those that `visible_entries` leaves out.

    Raises:
        UserError: if the folder cannot be read.
    """
    return [Path(entry.path) for entry in visible_entries(folder) if is_folder(entry)]


def foreign_folders(folder: Path) -> list[str]:
    """The names of the folders inside that other programs made; hidden ones are not listed."""
    return [
        entry.name
        for entry in _entries(folder)
        if is_foreign(entry) and not entry.name.startswith(".")
    ]


def _entries(folder: Path) -> list[os.DirEntry]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(
            f"the folder {folder} cannot be read ({error.strerror}); allow reading it, or move it "
            "out of the raw folder"
        ) from error


def describe_folder(folder: Path) -> str:
    """Lists a folder for an error, as "raw/a has 1.txt, 2.txt, b/, c/ and 4 more"."""
    names = [entry.name + "/" * is_folder(entry) for entry in _entries(folder)]
    return f"{folder} has {abbreviate(sorted(names))}" if names else f"{folder} is empty"


def abbreviate(names: Iterable[str], most: int = 4) -> str:
    """Joins the first `most` names and says how many more there are; quotes those with commas."""
    names = list(names)
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(quote_name, names[:most])) + rest
