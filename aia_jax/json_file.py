"""Reads JSON strictly: whatever is wrong with it becomes one reason that a person can act on."""

import json
import math
import re
from pathlib import Path
from typing import Any, NoReturn

from aia_jax.errors import DataError

# Python reads a byte of a file name that is no text as one of these; `json.dumps` escapes it.
_BYTES_OF_NAMES = re.compile("[\udc80-\udcff]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_ESCAPED_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


class JsonError(ValueError):
    """A text is not the JSON that was expected; the text is the reason, with the line if known."""


def parse_json(content: bytes, kind: type, *, file_names: bool = False) -> Any:
    """Parses a JSON text whose value is a `kind`.

    Python's own parser lets pass, or ends with other errors than its own for: NaN and Infinity,
    numbers of thousands of digits, a key that comes twice, half characters (lone surrogates), and
    brackets that are nested too deep.

    Args:
        content: in UTF-8.
        kind: list or dict.
        file_names: whether to take half characters that stand for bytes of a file name, as this
            program's own files have them.

    Raises:
        JsonError: if the content is not such a JSON text.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise JsonError(f"not UTF-8 text (byte {error.start})") from error
    try:
        value = json.loads(
            text,
            parse_constant=_refuse_constant,
            parse_float=_finite,
            object_pairs_hook=_unique_keys,
        )
    except json.JSONDecodeError as error:
        ends = "" if text[error.pos :].strip() else "; it ends too early"
        raise JsonError(f"line {error.lineno}: not JSON ({error.msg}{ends})") from error
    except RecursionError:
        raise JsonError("not usable JSON (its brackets are nested too deep)") from None
    except ValueError as error:  # of the functions below, or a number with too many digits
        reason = "a number has thousands of digits" if "digits" in str(error) else error
        raise JsonError(f"not usable JSON ({reason})") from error
    if not isinstance(value, kind):
        raise JsonError(f"found a {type(value).__name__}, expected a {kind.__name__}")
    if _ESCAPED_SURROGATE.search(text):
        _check_characters(value, file_names)
    return value


def read_json(path: Path, kind: type, remedy: str, *, file_names: bool = False) -> Any:
    """Reads a JSON file as `parse_json` does.

    Args:
        path: the file.
        kind: as in `parse_json`.
        remedy: what to do where the file is not usable, as "download it again".
        file_names: as in `parse_json`.

    Raises:
        DataError: if the file cannot be read or is not such JSON; one line with `remedy`.
    """
    try:
        return parse_json(path.read_bytes(), kind, file_names=file_names)
    except JsonError as error:
        comma = ", " if str(error).startswith("line") else ": "
        raise DataError(f"{path}{comma}{error}; {remedy}") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); {remedy}") from error


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON's")


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"the number {text[:20]} is too large")
    return number


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for k, name in enumerate(names) if name in names[:k])
        raise ValueError(f"the key {twice!r} is there twice in one object")
    return found


def _check_characters(value: Any, file_names: bool) -> None:
    """Raises `JsonError` at a lone surrogate, which no file and no terminal can take."""
    # A stack of its own: the value may be nested as deep as Python's calls.
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, dict):
            left += [*one.keys(), *one.values()]
        elif isinstance(one, list):
            left += one
        elif isinstance(one, str):
            text = _BYTES_OF_NAMES.sub("", one) if file_names else one
            if _SURROGATE.search(text):
                raise JsonError(f"not usable JSON ({one[:80]!r} holds half a character)")
