"""Checks class names, and finds the classes that a split has no videos of."""

import re
import unicodedata
from collections.abc import Mapping, Sequence

import numpy as np

_LONGEST = 1000  # characters of a name
_SHOWN = 4  # classes that a note names


def find_name_problem(name: str) -> str:
    """Says why a text cannot name a class; empty if it can.

    A name is one line of text, since TFDS stores the names of a label as lines of a file.
    """
    if not name:
        return "it is empty"
    if len(name) > _LONGEST:
        return f"it has {len(name):,} characters"
    if name != name.strip():
        return "it has a space at an end"
    for character in name:
        kind = unicodedata.category(character)
        if kind == "Cs":
            return "it is not UTF-8"
        if kind in ("Cc", "Zl", "Zp"):
            return f"it holds the control character {character!r}"
    return ""


def spelling(name: str) -> str:
    """A text that is equal for names which people read as one.

    They differ in case, in spaces, in invisible characters, or in how Unicode composes their
    letters: macOS writes "ö" as two characters in the names of its files, others as one.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    visible = "".join(one for one in folded if unicodedata.category(one) != "Cf")
    return " ".join(visible.split())


def find_lookalikes(names: Sequence[str]) -> tuple[str, str] | None:
    """Two of the names that have one spelling; None if there are none."""
    first: dict[str, str] = {}
    for name in names:
        if (earlier := first.setdefault(spelling(name), name)) != name:
            return earlier, name
    return None


def show_name(name: str) -> str:
    """A name for an error: letters outside ASCII are named too where accents stand alone."""
    if any(unicodedata.combining(one) for one in name):
        return f"{name!r} (with accents as characters of their own)"
    return repr(name)


def quote_name(name: str) -> str:
    """A name for a list of names: in quotes if it holds what stands between names.

    What would steer a terminal, or is not UTF-8, is shown as an escape.
    """
    if not name.isprintable():
        return repr(name)
    return f'"{name}"' if re.search(r"[,;]", name) else name


def notes_on_classes(
    names: Sequence[str], counts: Mapping[str, Sequence[int] | np.ndarray], train: str = "train"
) -> list[str]:
    """Names the classes that can only fail, and those that nothing measures.

    Args:
        names: of the classes.
        counts: videos of each class, [classes], by split.
        train: the split that is trained on.

    Returns:
        A line for the training split if it lacks classes that another split has, and a line for
        each other split that lacks classes which are trained.
    """
    if train not in counts:
        return []
    notes = []
    trained = np.asarray(counts[train]) > 0
    others = {split: np.asarray(count) > 0 for split, count in counts.items() if split != train}
    for split, found in others.items():
        if (found & ~trained).any():
            notes.append(
                f"classes of the split {split} without training videos, which can only be taken "
                f"for others: {_show(names, found & ~trained)}"
            )
        if (trained & ~found).any():
            notes.append(
                f"classes without videos in the split {split}, which measures nothing of them: "
                f"{_show(names, trained & ~found)}"
            )
    return notes


def notes_on_labels(
    names: Sequence[str], labels: Mapping[str, np.ndarray | Sequence[int]], train: str = "train"
) -> list[str]:
    """As `notes_on_classes`, given the labels of each split, int [N]; -1 counts nowhere."""
    counts = {}
    for split, found in labels.items():
        valid = np.asarray(found, np.int64)
        valid = valid[(valid >= 0) & (valid < len(names))]
        counts[split] = np.bincount(valid, minlength=len(names))
    return notes_on_classes(names, counts, train)


def _show(names: Sequence[str], chosen: np.ndarray) -> str:
    found = [names[k] for k in np.flatnonzero(chosen)]
    shown = ", ".join(map(quote_name, found[:_SHOWN]))
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return f"{len(found)} ({shown}{more})"
