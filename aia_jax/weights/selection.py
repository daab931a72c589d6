"""Chooses the arrays of a source that a network uses; says why the others are left."""

from collections.abc import Iterable, Mapping
from types import ModuleType

import numpy as np

from aia_jax.weights.names import Entry, Target
from aia_jax.weights.report import shape_text

HEAD = "params/head/"  # beginning of the paths of the classifier's variables
_MOST = 1 << 28  # numbers; a file may show a single number as any array


def join_entries(
    entries: Iterable[tuple[str, str, np.ndarray]], targets: Mapping[str, Target]
) -> tuple[dict[str, Entry], list[str], list[str]]:
    """Canonical key → entry, where several keys of a file may mean the same variable.

    A copy is left out. Of two heads the one with the network's number of classes is taken: a
    program that puts a new head on a network may leave the old one in the file.

    Args:
        entries: (canonical key, key, array), of `names.entries`.
        targets: of the network; {}: nothing is left out.

    Returns:
        The entries, a problem for each pair of keys that contradict each other, and notes on keys
        that were left out.
    """
    source: dict[str, Entry] = {}
    problems, notes = [], []
    for canonical, key, value in entries:
        entry = Entry(key, value)
        first = source.setdefault(canonical, entry)
        if first is entry:
            continue
        target = targets.get(canonical)
        if target is not None and _are_same(first.value, value):
            notes.append(f"{key} is a copy of {first.key}")
        elif target is not None and _one_fits(first, entry, target):
            fits = np.shape(value) == target.source_shape
            source[canonical], other = (entry, first) if fits else (first, entry)
            notes.append(
                f"the file has two heads; taken: {source[canonical].key} "
                f"{shape_text(np.shape(source[canonical].value))}, not {other.key} "
                f"{shape_text(np.shape(other.value))}"
            )
        else:
            line = f"twice: {first.key} and {key} mean the same variable"
            problems.append(line + _how_to_choose(first, entry, target))
    return source, problems, notes


def _are_same(one: np.ndarray, other: np.ndarray) -> bool:
    fits = np.shape(one) == np.shape(other) and np.size(one) < _MOST
    return fits and bool(np.array_equal(one, other))


def _how_to_choose(one: Entry, other: Entry, target: Target | None) -> str:
    """What to do about two heads; "" for other arrays."""
    if target is None or not target.variable.startswith(HEAD):
        return ""
    classes = [np.shape(entry.value)[:1] for entry in (one, other)]
    if classes[0] == classes[1] or () in classes:
        return "; delete one of them from the file"
    return f"; data.num_classes={classes[0][0]} or {classes[1][0]} takes one of them"


def _one_fits(one: Entry, other: Entry, target: Target) -> bool:
    """Whether both are of a head, and just one of them is of this network's."""
    fits = [np.shape(entry.value) == target.source_shape for entry in (one, other)]
    return target.variable.startswith(HEAD) and fits.count(True) == 1


def find_other_modules(
    source: dict[str, Entry], targets: dict[str, Target], names: ModuleType
) -> dict[str, str]:
    """Key → reason, for the keys of attention modules that are not the ones of this network.

    CinST's gates have the names of C's and of ST's. So a module is the same only if all of its keys
    are: otherwise a part of another module would load, and nobody would notice.
    """
    unused = {}
    for module in dict.fromkeys(filter(None, map(names.optional_module, targets))):
        source_keys = {key for key in source if names.optional_module(key) == module}
        if source_keys != {key for key in targets if names.optional_module(key) == module}:
            unused |= dict.fromkeys(source_keys, "of another attention module")
    return unused


def find_other_classes(source: dict[str, Entry], targets: dict[str, Target]) -> dict[str, str]:
    """Key → reason, for the keys of a head with another number of classes."""
    unused = {}
    head = [
        key for key, target in targets.items() if target.variable.startswith(HEAD) and key in source
    ]
    for key in head:
        shape, axis = np.shape(source[key].value), targets[key].axes[-1]
        classes = targets[key].shape[-1]
        if len(shape) > axis and shape[axis] != classes:
            unused |= dict.fromkeys(head, f"{shape[axis]} classes there, {classes} here")
    return unused
