"""What a folder holds, for readers and for the words of their errors."""

import os
from collections.abc import Sequence
from pathlib import Path


def folders_in(folder: Path) -> list[Path]:
    """The folders inside, by name; hidden ones and the litter of macOS archives are left out."""
    with os.scandir(folder) as entries:
        return sorted(Path(entry.path) for entry in entries if entry.is_dir() and not entry.name.startswith((".", "__MACOSX")))


def contents(folder: Path) -> str:
    """As "raw/a has 1.txt, 2.txt, b/ and 4 more"."""
    with os.scandir(folder) as entries:
        names = sorted(entry.name + "/" * entry.is_dir() for entry in entries)
    return f"{folder} has {some(names)}" if names else f"{folder} is empty"


def some(names: Sequence[str], most: int = 4) -> str:
    """The first few names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
