"""Walks folders that may hold links to folders, each folder once, so that a loop ends."""

import glob
import os
import re
from collections.abc import Iterator
from pathlib import Path

_ANY_DEPTH = re.compile(r"(?:^|/)\*\*(?:/|$)")


def folder_key(path: str | Path) -> tuple[int, int] | None:
    """Device and inode, which are one folder's under all its names; None if it cannot be read."""
    try:
        status = os.stat(path)  # noqa: PTH116 (also takes text)
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


def walk_folders(root: str) -> Iterator[str]:
    """Yields a folder and all folders below it, without hidden ones and those not readable.

    Links to folders are followed after all other folders, each if its folder has not been yielded
    under another name: two links to a folder above them would otherwise never end.
    """
    seen, folders, links = set(), [root], []
    while folders or links:
        folder = folders.pop() if folders else links.pop(0)
        if (key := folder_key(folder or ".")) is None or key in seen:
            continue
        seen.add(key)
        try:
            with os.scandir(folder or ".") as entries:
                inner = sorted(
                    (entry.name, entry.is_symlink())
                    for entry in entries
                    if not entry.name.startswith(".") and is_folder(entry)
                )
        except OSError:
            continue
        yield folder
        folders += [os.path.join(folder, name) for name, link in reversed(inner) if not link]  # noqa: PTH118
        links += [os.path.join(folder, name) for name, link in inner if link]  # noqa: PTH118


def is_folder(entry: os.DirEntry) -> bool:
    """Whether an entry is a folder or a link to one; a link to itself is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def expand_pattern(pattern: str) -> list[str]:
    """All names that a pattern matches, in order; "**" stands for folders of any depth.

    As `glob.glob(pattern, recursive=True)`, but it ends where links to folders form a loop: each
    folder is searched once.
    """
    parts = _ANY_DEPTH.search(pattern)
    if not parts:
        return sorted(glob.glob(pattern))  # noqa: PTH207 (Path.glob takes no absolute patterns)
    head, rest = pattern[: parts.start()], pattern[parts.end() :]
    if not head:
        roots = ["/" if pattern.startswith("/") else ""]
    else:
        roots = [name for name in sorted(glob.glob(head)) if os.path.isdir(name)]  # noqa: PTH112, PTH207
    found = set()
    for root in roots:
        for folder in walk_folders(root):
            found.update(expand_pattern(os.path.join(glob.escape(folder), rest or "*")))  # noqa: PTH118
        if not rest and root:
            found.add(root)
    return sorted(found)
