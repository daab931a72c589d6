"""metrics.jsonl: a row of numbers a line, read with care and written line by line."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aia_jax.errors import UserError, shorten
from aia_jax.files import naming, write_text
from aia_jax.json_file import JsonError, parse_json

METRICS_FILE = "metrics.jsonl"
_SPLITS = ("train", "validation")


def read_rows(path: str | Path, last_step: int | None = None) -> list[dict[str, Any]]:
    """Reads metrics.jsonl.

    A line that a killed process left unfinished is passed over; it belongs to steps that will be
    taken again.

    Args:
        path: the file; without one there are no rows.
        last_step: rows of later steps are left out.

    Raises:
        UserError: for a line before the last that is not a row: a "step", a "split" and numbers.
    """
    path = Path(path)
    lines = path.read_bytes().split(b"\n") if path.exists() else []
    if lines and not lines[-1]:  # behind the last line's end
        lines.pop()
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            row = _parse_row(line)
        except JsonError as error:
            if number == len(lines):
                break
            raise UserError(
                f"{path}, line {number} is not a row of metrics ({error}): "
                f"{shorten(line.decode(errors='backslashreplace'))}; remove the line"
            ) from error
        if last_step is None or row["step"] <= last_step:
            rows.append(row)
    return rows


def _parse_row(line: bytes) -> dict[str, Any]:
    row = parse_json(line, dict)
    if type(row.get("step")) is not int or row["step"] < 0:
        raise JsonError('it has no "step", a whole number')
    if row.get("split") not in _SPLITS:
        raise JsonError(f'it has no "split", {" or ".join(_SPLITS)}')
    if type(row.get("steps", 1)) is not int or row.get("steps", 1) < 1:
        raise JsonError('its "steps" are not a whole number from 1')
    for name, value in row.items():
        if name != "split" and type(value) not in (int, float, type(None)):
            raise JsonError(f"its {name!r} is not a number")
    return row


class MetricsFile:
    """metrics.jsonl, open to be written."""

    def __init__(self, path: Path, rows: Sequence[Mapping[str, Any]]):
        """Opens the file to go on after `rows`; all else in it is removed.

        A kill at any moment leaves the old file or the new one.
        """
        self._path = path
        content = "".join(json.dumps(row) + "\n" for row in rows)
        if not path.exists() or path.read_bytes() != content.encode():
            write_text(path, content)
        self._file = path.open("ab")

    def write(self, row: Mapping[str, Any]) -> None:
        """Adds a row, which is in the file when this returns."""
        with naming(self._path):
            self._file.write(json.dumps(row).encode() + b"\n")
            self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        with naming(self._path):
            self._file.close()
