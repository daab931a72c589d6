"""Parses annotation files (text lines, JSON, CSV) with errors that name the file and the line."""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from aia_jax import json_file
from aia_jax.errors import UserError, shorten

LARGEST_FRAME = 2**31 - 1  # frame numbers are stored in 32 bits
_LARGEST_SECOND = 2**31  # 68 years
_LARGEST = 2**63  # numbers are stored in 64 bits
_WHOLE = re.compile(r"-?[0-9]{1,4000}")  # Python parses no more digits
_DECIMAL = re.compile(r"-?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_STAMP = re.compile(r"([0-9]+):([0-9]+):([0-9]+(?:\.[0-9]+)?)")


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yields the lines of a text file, stripped, with their numbers from 1; skips empty lines.

    Raises:
        UserError: if the file is not UTF-8 text, or a line has a carriage return inside.
    """
    text = re.sub("\r+\n", "\n", _read_text(path))
    if "\n" not in text:
        text = text.replace("\r", "\n")  # of an old Macintosh
    for number, line in enumerate(text.split("\n"), 1):
        if "\r" in line:
            raise UserError(
                f"{path}, line {number}: found a carriage return in {show_value(line)}; make it a "
                "line break, or delete it"
            )
        if line.strip():
            yield number, line.strip()


def read_names(path: Path) -> list[str]:
    """Reads class names, one a line, in the order of their ids.

    Raises:
        UserError: if the file is not UTF-8 text, or a line between two names is empty: it is not
            known then whether an id belongs to it.
    """
    names, last = [], 0
    for number, name in read_lines(path):
        if names and number > last + 1:
            raise UserError(
                f"{path}, line {last + 1}: it is empty, expected a class name; a line stands for a "
                "class id, so delete it or name the class"
            )
        names.append(name)
        last = number
    return names


def read_json(path: Path, kind: type) -> Any:
    """Reads a JSON file whose value is a `kind`, list or dict.

    Raises:
        UserError: if the file is not strict JSON, or its value is of another kind.
    """
    return json_file.read_json(path, kind, "download it again, or correct it")


def read_table(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yields the rows of a CSV file with a header, as line number and dict by column name.

    Columns are found by their names whatever their case; the dict has them in lower case.

    Args:
        path: the file.
        columns: names in lower case that the header must have; it may have others. A row has text
            in each of them.

    Raises:
        UserError: if a column is missing or there twice, a row has another number of cells or none
            of the text that it must have, or the file is not CSV.
    """
    rows = csv.reader(io.StringIO(_read_text(path), newline=""), strict=True)
    try:
        yield from _checked_rows(path, rows, columns)
    except csv.Error as error:
        raise UserError(f"{path}, line {rows.line_num}: not CSV ({error})") from error


def _checked_rows(
    path: Path, rows: Any, columns: Sequence[str]
) -> Iterator[tuple[int, dict[str, str]]]:
    # A byte order mark stays in the text where another program has put a second one.
    header = [" ".join(name.replace("\ufeff", "").split()).lower() for name in next(rows, [])]
    if missing := [name for name in columns if name not in header]:
        found = shorten(", ".join(header)) or "nothing"
        other = next((mark for mark in (";", "\t", "|") if len(header) == 1 and mark in found), "")
        raise UserError(
            f"{path}: no column {', '.join(missing)}; its first line has {found}"
            + (f"; save it with commas between the cells instead of {other!r}" if other else "")
        )
    if twice := [name for name, count in Counter(header).items() if count > 1 and name]:
        raise UserError(
            f"{path}: {header.count(twice[0])} columns are named {twice[0]} (case and spaces do "
            "not count); keep the one that is meant"
        )
    for row in rows:
        if not row:
            continue
        if len(row) != len(header):
            raise UserError(
                f"{path}, line {rows.line_num}: found {len(row)} cells, expected {len(header)} as "
                "in the first line"
            )
        cells = dict(zip(header, map(str.strip, row), strict=True))
        if empty := [name for name in columns if not cells[name]]:
            if not any(cells.values()):
                continue  # spreadsheets end in such rows
            raise UserError(
                f"{path}, line {rows.line_num}: nothing in the column {empty[0]}; fill it in, or "
                "delete the line"
            )
        yield rows.line_num, cells


def is_whole(text: str) -> bool:
    """Whether a text is a whole number in plain digits, negative ones included."""
    return _WHOLE.fullmatch(text) is not None


def parse_int(value: Any, where: str, low: int = 0, high: int | None = None) -> int:
    """Parses a whole number n with low ≤ n < high.

    It is strict, since what looks like a number and is none ("1.7", true, "1_000") would become
    another label or frame: only plain digits, with "-" before them, and JSON's whole numbers count.

    Args:
        value: the number, or its text.
        where: the file, line and column, for the error.
        low: the smallest valid number.
        high: the first number that is too large; None: as many as 64 bits hold.

    Raises:
        UserError: if `value` is not such a number.
    """
    if type(value) is int:  # not bool, which is an int to Python
        number = value
    elif isinstance(value, str) and is_whole(value):
        number = int(value)
    else:
        raise UserError(f"{where}: found {show_value(value)}, expected a whole number")
    if not low <= number < (_LARGEST if high is None else high):
        hint = ""
        if high is not None:
            valid = f"{low} to {high - 1}"
        else:
            valid = f"at least {low}" if number < low else "a number of at most 64 bits"
        if number == -1 and low >= 0:
            hint = " (-1 for “not known” is not read: leave such entries out)"
        raise UserError(f"{where}: found {show_value(number)}, expected {valid}{hint}")
    return number


def parse_frame(value: Any, where: str, low: int = 0) -> int:
    """Parses a frame number, or a number of frames, of at least `low`.

    Raises:
        UserError: if `value` is not such a number, or beyond 32 bits.
    """
    return parse_int(value, where, low, LARGEST_FRAME)


def parse_seconds(text: str, where: str) -> float:
    """Parses a number of seconds, such as "12.5", "3" or "1e-05".

    Raises:
        UserError: if `text` is not such a number, is negative or is beyond 68 years.
    """
    if not _DECIMAL.fullmatch(text) or len(text) > 100:
        raise UserError(f"{where}: found {show_value(text)}, expected seconds, as 12.5")
    return _check_seconds(float(text), text, where)


def parse_stamp(text: str, where: str) -> float:
    """Parses a time stamp such as "00:01:02.50" to seconds.

    Raises:
        UserError: if `text` is not such a stamp, or is beyond 68 years.
    """
    match = _STAMP.fullmatch(text)
    if not match or len(text) > 100:
        raise UserError(f"{where}: found {show_value(text)}, expected HOURS:MINUTES:SECONDS")
    seconds = int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3])
    return _check_seconds(seconds, text, where)


def _check_seconds(seconds: float, text: str, where: str) -> float:
    if not 0 <= seconds < _LARGEST_SECOND:
        raise UserError(f"{where}: found {show_value(text)}, expected seconds from 0 to 2^31")
    return seconds


def parse_name(value: Any, where: str) -> str:
    """Takes the name of a video or class out of JSON: a text, or a whole number.

    Raises:
        UserError: if `value` is another kind of value, or empty.
    """
    name = str(value).strip() if isinstance(value, str) or type(value) is int else ""
    if not name:
        raise UserError(f"{where}: found {show_value(value)}, expected a name")
    return name


def show_value(value: Any) -> str:
    """A found value for an error: its beginning and its end if it is long."""
    try:
        return shorten(repr(value))
    except (ValueError, RecursionError):  # thousands of digits, or of brackets
        return f"a {type(value).__name__} too long to write out"


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
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: not UTF-8 text (byte {error.start}); download it again, or save it as UTF-8"
        ) from error
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); allow reading it, or name another file"
        ) from error
