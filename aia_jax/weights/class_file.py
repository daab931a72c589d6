"""Reads the names of classes from a file that a user has: a text or JSON of public data sets."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aia_jax.errors import UserError, describe
from aia_jax.json_file import JsonError, parse_json
from aia_jax.shards.class_names import find_name_problem

_FORMS = (
    "one name a line, or JSON: a list of names, an object {name: label}, or an object {label: name}"
)


def read_class_file(path: Path, count: int) -> tuple[str, ...]:
    """Reads the names of a head's classes.

    Args:
        path: a text with one name a line, in the order of the labels, or JSON: a list in that
            order, {name: label}, or {label: name}; labels count from 0.
        count: classes of the head.

    Returns:
        The names by label.

    Raises:
        UserError: the file cannot be read or is of no such form, a label is missing or there twice,
            a name cannot be one, or there are more or fewer than `count` names.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"--classes {path} cannot be read ({error.strerror})") from error
    # An editor may have put a byte order mark before the text.
    start = content.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    if path.suffix.lower() == ".json" or start in (b"[", b"{"):
        names = _from_json(path, content)
    else:
        names = _from_lines(path, content)
    check_names(names, count, f"--classes {path}")
    return names


def check_names(names: Sequence[Any], count: int, source: str) -> None:
    """Checks that names can be those of a head's classes.

    Args:
        names: by label.
        count: classes of the head.
        source: where they come from, for the error.

    Raises:
        UserError: one is no name, one is there twice, or there are more or fewer than `count`.
    """
    for label, name in enumerate(names):
        problem = find_name_problem(name) if isinstance(name, str) else "it is no text"
        if problem:
            raise UserError(f"{source}: class {label} is {describe(name)}: {problem}")
    if len(set(names)) < len(names):
        twice = next(name for k, name in enumerate(names) if name in names[:k])
        raise UserError(f"{source}: the name {twice!r} is there twice; expected it once")
    if len(names) != count:
        raise UserError(
            f"{source} has {len(names)} names, and the head of the weights {count} classes; give "
            "those of the data set that they were trained on"
        )


def _from_lines(path: Path, content: bytes) -> tuple[str, ...]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"--classes {path} is not UTF-8 text (byte {error.start}); expected {_FORMS}"
        ) from error
    # Not `splitlines`, which also splits at characters that `find_name_problem` names.
    return tuple(line.strip(" \t\r") for line in text.rstrip().split("\n")) if text.strip() else ()


def _from_json(path: Path, content: bytes) -> tuple[str, ...]:
    try:
        value = parse_json(content, object)
    except JsonError as error:
        raise UserError(f"--classes {path}: {error}; expected {_FORMS}") from error
    if isinstance(value, dict):
        return _in_order(path, _labels(path, value))
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        return tuple(value)
    raise UserError(f"--classes {path}: found {describe(value)}; expected {_FORMS}")


def _labels(path: Path, value: Mapping[str, Any]) -> list[tuple[int, str]]:
    """The (label, name) pairs of a JSON object, whichever of both is the key."""
    if all(map(_is_label, value)) and all(isinstance(name, str) for name in value.values()):
        return [(int(label), name) for label, name in value.items()]
    if all(map(_is_label, value.values())):  # Something-Something's labels are numbers in quotes
        return [(int(label), name) for name, label in value.items()]
    wrong = next(item for item in value.items() if not _is_label(item[1]))
    raise UserError(f"--classes {path}: found {describe(dict([wrong]))}; expected {_FORMS}")


def _is_label(value: Any) -> bool:
    return type(value) is int or (
        isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 10
    )


def _in_order(path: Path, pairs: list[tuple[int, str]]) -> tuple[str, ...]:
    by_label = dict(pairs)
    for label in range(len(pairs)):
        if label not in by_label:
            found = sorted(label for label, _ in pairs)
            raise UserError(
                f"--classes {path}: no class has the label {label}; the labels are to be 0 to "
                f"{len(pairs) - 1}, each once (found {found[0]} to {found[-1]})"
            )
    return tuple(by_label[label] for label in range(len(pairs)))
