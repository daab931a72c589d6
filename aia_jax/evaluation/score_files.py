"""Reads and writes score files: `scores/<split>_<frames>x<crops>x<clips>_<step>.npz`.

A score file is an .npz of the arrays `ids`, `labels`, `class_names`, `logits`, `evaluated` and,
where they were kept, `view_logits`, and of the text `about`: JSON with the format's number and the
fields of an `Evaluation` or an `Ensemble`. It holds no pickles. Every array has the zip's checksum.
"""

import contextlib
import dataclasses
import json
import types
import typing
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from aia_jax.errors import UserError
from aia_jax.evaluation.scores import (
    About,
    Ensemble,
    Evaluation,
    Scores,
    ScoresError,
    identity,
)
from aia_jax.files import atomic_file

SUFFIX = ".npz"

_FORMAT = 1
_ARRAYS = ("ids", "labels", "class_names", "logits", "evaluated")
_KINDS: Mapping[str, type[Evaluation] | type[Ensemble]] = {
    "evaluation": Evaluation,
    "ensemble": Ensemble,
}
# What NumPy and zipfile raise for files that are damaged or no .npz.
UNREADABLE = (
    *(OSError, ValueError, KeyError, EOFError, MemoryError, NotImplementedError, RuntimeError),
    *(SyntaxError, TypeError, OverflowError, zipfile.BadZipFile, zlib.error),
)
_ADVICE = "eval.py writes score files"


def write_scores(path: Path, scores: Scores) -> None:
    """Writes a score file; an older one of this name is replaced when the new one is whole.

    Raises:
        UserError: the file cannot be written.
    """
    arrays = {
        "about": np.array(json.dumps({"format": _FORMAT, **about_json(scores.about)})),
        "ids": scores.ids,
        "labels": scores.labels,
        "class_names": np.array(scores.class_names),
        "logits": scores.logits,
        "evaluated": scores.evaluated,
    }
    if scores.view_logits is not None:
        arrays["view_logits"] = scores.view_logits
    write_arrays(path, arrays)


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes an .npz, and its folder if needed, as `atomic_file` does.

    Raises:
        UserError: the file cannot be written.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as file:
            np.savez(file, **arrays)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns a failure to write into a `UserError` that names `path`."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror or error}); give another place"
        ) from error


def read_scores(path: Path) -> Scores:
    """Reads and checks a score file.

    Raises:
        ScoresError: the file is missing, damaged, no score file or of another format, or `Scores`
            refuses its content; one line that names the file and the key.
    """
    arrays = read_arrays(path, ("about", *_ARRAYS), ("view_logits",), _ADVICE)
    try:
        about = _read_about(arrays["about"])
        class_names = arrays["class_names"]
        if class_names.dtype.kind != "U" or class_names.ndim != 1:
            raise ScoresError(
                f"class_names: found {class_names.dtype} {list(class_names.shape)}, expected text "
                "[K]"
            )
        return Scores(
            about,
            class_names=tuple(class_names.tolist()),
            view_logits=arrays.get("view_logits"),
            **{key: arrays[key] for key in _ARRAYS if key != "class_names"},
        )
    except ScoresError as error:
        raise ScoresError(f"{path}: {error}") from error


def read_arrays(
    path: Path, needed: Sequence[str], optional: Sequence[str], advice: str
) -> dict[str, np.ndarray]:
    """Reads the named arrays of an .npz; others are left alone.

    Raises:
        ScoresError: the file is missing or damaged, or lacks a needed array.
    """
    if path.is_dir():
        inside = sorted(map(str, (*path.glob("*.npz"), *path.glob("scores/*.npz"))))
        has = f"name one of {_abbreviate(inside)}" if inside else advice
        raise ScoresError(f"{path} is a folder, expected an .npz file; {has}")
    try:
        file = np.load(path, allow_pickle=False)
    except OSError as error:
        problem = "does not exist" if isinstance(error, FileNotFoundError) else "cannot be read"
        reason = "" if isinstance(error, FileNotFoundError) else f" ({error.strerror or error})"
        raise ScoresError(f"{path} {problem}{reason}; {advice}") from error
    except ValueError as error:  # NumPy takes what is no .npz and no .npy for a pickle
        beside = path.with_suffix(".npz")
        is_beside = beside != path and beside.is_file()
        remedy = f"the scores are in {beside}" if is_beside else advice
        raise ScoresError(f"{path} is no .npz file; {remedy}") from error
    except UNREADABLE as error:
        raise ScoresError(f"{path} is damaged, or no .npz ({_reason(error)}); {advice}") from error
    if not isinstance(file, np.lib.npyio.NpzFile):
        raise ScoresError(f"{path} holds one array and is no .npz; {advice}")
    with file:
        if missing := [key for key in needed if key not in file.files]:
            raise ScoresError(
                f"{path} lacks {', '.join(missing)}: it has {_abbreviate(file.files)}, expected "
                f"{', '.join(needed)}; {advice}"
            )
        arrays = {}
        for key in (*needed, *(key for key in optional if key in file.files)):
            try:
                arrays[key] = file[key]
            except UNREADABLE as error:
                raise ScoresError(
                    f"{path}: {key} cannot be read ({_reason(error)}); the file is damaged or no "
                    f"score file: {advice}"
                ) from error
    return arrays


def read_identity(path: Path) -> str | None:
    """The identity of the test in a score file; None for an ensemble, or a file without scores."""
    try:
        arrays = read_arrays(path, ("about", "class_names"), (), _ADVICE)
        about = _read_about(arrays["about"])
    except ScoresError:
        return None
    if isinstance(about, Ensemble):
        return None
    return identity(about, arrays["class_names"].tolist())


def about_json(about: About) -> dict[str, Any]:
    """What was tested as plain values; `kind` says which class has these fields."""
    if isinstance(about, Ensemble):
        members = [about_json(member) for member in about.members]
        return {
            "kind": "ensemble",
            "rule": about.rule,
            "weights": list(about.weights),
            "members": members,
        }
    # Tuples become lists, as a file gives them back.
    return {"kind": "evaluation", **json.loads(json.dumps(dataclasses.asdict(about)))}


def _read_about(text: np.ndarray) -> About:
    if text.dtype.kind != "U" or text.shape:
        raise ScoresError(f"about: found {text.dtype} {list(text.shape)}, expected one text")
    try:
        content = json.loads(str(text))
    except (ValueError, RecursionError) as error:
        raise ScoresError(f"about: it is no JSON ({_reason(error)})") from error
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        found = content.get("format") if isinstance(content, dict) else content
        raise ScoresError(
            f"about: found format {found!r}, expected {_FORMAT}; another version of aia_jax may "
            "have written it: test again"
        )
    return _parse_about(content)


def _parse_about(content: Any) -> About:
    """The reverse of `about_json`, with every field's type checked."""
    kind = content.get("kind") if isinstance(content, dict) else None
    if kind not in _KINDS:
        raise ScoresError(f"about: found kind {kind!r}, expected one of {', '.join(_KINDS)}")
    values = {}
    for field in dataclasses.fields(_KINDS[kind]):
        if field.name not in content:
            raise ScoresError(f"about: {field.name} is missing")
        value = content[field.name]
        if kind == "ensemble" and field.name == "members":
            if not isinstance(value, list):
                raise ScoresError(f"about: members is {value!r}, expected a list")
            values["members"] = tuple(map(_parse_about, value))
            continue
        if not _is_type(value, field.type):
            expected = getattr(field.type, "__name__", None) or str(field.type)
            raise ScoresError(f"about: {field.name} is {value!r}, expected {expected}")
        values[field.name] = tuple(value) if isinstance(value, list) else value
    return _KINDS[kind](**values)


def _is_type(value: Any, expected: Any) -> bool:
    """Whether a value of JSON fits a field's annotation."""
    origin, arguments = typing.get_origin(expected), typing.get_args(expected)
    if origin is types.UnionType:
        return any(_is_type(value, argument) for argument in arguments)
    if origin is tuple:
        return isinstance(value, list) and all(_is_type(item, arguments[0]) for item in value)
    if origin is not None:
        return isinstance(value, dict)
    if expected is float:
        expected = (int, float)
    return isinstance(value, expected) and not isinstance(value, bool)


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:100].rstrip(" .") or type(error).__name__


def _abbreviate(names: Sequence[str]) -> str:
    more = f" and {len(names) - 6} more" if len(names) > 6 else ""
    return f"{', '.join(names[:6])}{more}" if names else "nothing"
