"""Parses annotation files (text lines, JSON, CSV) with errors that name the file and the line."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from aia_jax.errors import UserError


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yields the lines of a text file, stripped, with their numbers from 1; skips empty lines.

    Raises:
        UserError: if the file is not UTF-8 text.
    """
    for number, line in enumerate(_read_text(path).split("\n"), 1):
        if line.strip():
            yield number, line.strip()


def read_json(path: Path, kind: type) -> Any:
    """Reads a JSON file whose value is a `kind`, list or dict.

    Raises:
        UserError: if the file is not JSON, or its value is of another kind.
    """
    try:
        value = json.loads(_read_text(path))
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path}, line {error.lineno}: not JSON ({error.msg}); download it again"
        ) from error
    if not isinstance(value, kind):
        raise UserError(
            f"{path}: found a {type(value).__name__}, expected a {kind.__name__}; is this the "
            "right file?"
        )
    return value


def read_table(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yields the rows of a CSV file with a header, as line number and dict by column name.

    Args:
        path: the file.
        columns: names that the header must have; it may have others.

    Raises:
        UserError: if a column is missing, a row has another number of cells, or the file is not
            CSV.
    """
    rows = csv.reader(io.StringIO(_read_text(path), newline=""), strict=True)
    try:
        yield from _checked_rows(path, rows, columns)
    except csv.Error as error:
        raise UserError(f"{path}, line {rows.line_num}: not CSV ({error})") from error


def _checked_rows(
    path: Path, rows: Any, columns: Sequence[str]
) -> Iterator[tuple[int, dict[str, str]]]:
    header = [name.strip() for name in next(rows, [])]
    if missing := [name for name in columns if name not in header]:
        raise UserError(
            f"{path}: no column {', '.join(missing)}; its first line has "
            f"{', '.join(header) or 'nothing'}"
        )
    for row in rows:
        if not row:
            continue
        if len(row) != len(header):
            raise UserError(
                f"{path}, line {rows.line_num}: found {len(row)} cells, expected {len(header)} as "
                "in the first line"
            )
        yield rows.line_num, dict(zip(header, map(str.strip, row), strict=True))


def parse_int(text: Any, where: str, low: int = 0, high: int | None = None) -> int:
    """Parses a whole number n with low ≤ n < high.

    Args:
        text: of the number.
        where: the file, line and column, for the error.
        low: the smallest valid number.
        high: the first number that is too large; None: no limit.

    Raises:
        UserError: if `text` is not such a number.
    """
    try:
        number = int(text)
    except (TypeError, ValueError):
        raise UserError(f"{where}: found {text!r}, expected a whole number") from None
    if number < low or (high is not None and number >= high):
        valid = f"at least {low}" if high is None else f"{low} to {high - 1}"
        raise UserError(f"{where}: found {number}, expected {valid}")
    return number


def number_classes(
    path: Path, entries: Iterable[tuple[str, str, str]], first: int
) -> tuple[str, ...]:
    """Puts class names in the order of their class ids.

    Args:
        path: the file that they come from.
        entries: (number, class name, place in the file for an error) of each class.
        first: the number of the first class; the others follow without gaps.

    Raises:
        UserError: if there are no classes, or a number is missing or comes twice.
    """
    names: dict[int, str] = {}
    for text, name, where in entries:
        number = parse_int(text, where, first)
        if number in names:
            raise UserError(
                f"{where}: class {number} is there twice, as {names[number]!r} and {name!r}"
            )
        names[number] = name
    if not names:
        raise UserError(f"{path}: no classes in it; download it again")
    if missing := set(range(first, first + len(names))) - names.keys():
        raise UserError(
            f"{path}: the class numbers go to {max(names)}, but {min(missing)} is missing; "
            "download it again"
        )
    return tuple(names[number] for number in sorted(names))


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: not UTF-8 text (byte {error.start}); download it again, or save it as UTF-8"
        ) from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
