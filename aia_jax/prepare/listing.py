"""What a folder holds, for readers and for the words of their errors."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

VIDEOS = frozenset(
    (
        ".mp4",
        ".m4v",
        ".webm",
        ".avi",
        ".mkv",
        ".mov",
        ".mpg",
        ".mpeg",
        ".wmv",
        ".flv",
        ".3gp",
        ".ts",
        ".mts",
        ".m2ts",
        ".ogv",
    )
)


def folders_in(folder: Path) -> list[Path]:
    """The folders inside, by name; hidden ones and the litter of macOS archives are left out."""
    with os.scandir(folder) as entries:
        return sorted(
            Path(entry.path)
            for entry in entries
            if entry.is_dir() and not entry.name.startswith((".", "__MACOSX"))
        )


def contents(folder: Path) -> str:
    """As "raw/a has 1.txt, 2.txt, b/ and 4 more"."""
    with os.scandir(folder) as entries:
        names = sorted(entry.name + "/" * entry.is_dir() for entry in entries)
    return f"{folder} has {some(names)}" if names else f"{folder} is empty"


def some(names: Sequence[str], most: int = 4) -> str:
    """The first few names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def name_from(folder: Path) -> str:
    """A data set's name from its folder's: "My Videos" → "my_videos"."""
    name = re.sub(r"[^a-z0-9]+", "_", folder.name.lower()).strip("_")
    return name if name[:1].isalpha() else f"videos_{name}".rstrip("_")
