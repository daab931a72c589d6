"""Runs recipe files; whatever goes wrong there is one line with the file's line number."""

import contextlib
import difflib
import inspect
import itertools
import re
import sys
import traceback
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from aia_jax.config_fields import SIMILAR, no_such_key
from aia_jax.errors import UserError, describe

_REPOSITORY = Path(__file__).resolve().parents[1]  # holds `configs`, which recipes import from


@contextlib.contextmanager
def repository_importable() -> Iterator[None]:
    """Lets a recipe import its base from any working directory."""
    sys.path.insert(0, str(_REPOSITORY))
    try:
        yield
    finally:
        sys.path.remove(str(_REPOSITORY))


def split_argument(path: str) -> tuple[Path, str | None]:
    """The file of `--config FILE:ARGUMENT`, and its argument; None if there is none.

    Raises:
        UserError: if it is no Python file.
    """
    match = re.fullmatch(r"(?P<file>.+\.py)(?::(?P<argument>.*))?", path, re.DOTALL)
    if match is None:
        raise UserError(f"--config {path}: a recipe is a Python file, such as configs/demo.py")
    return Path(match["file"]), match["argument"]


def run_recipe(path: str, base: ConfigDict) -> ConfigDict:
    """Executes the file and calls its `get_config`.

    Args:
        path: "file.py" or "file.py:argument".
        base: the defaults, for the names of keys that may have been meant.

    Raises:
        UserError: whatever goes wrong in the file.
    """
    file, argument = split_argument(path)
    module = run_file(file)
    arguments = () if argument is None else (argument,)
    with one_line_errors(file, base):
        if not callable(getattr(module, "get_config", None)):
            raise UserError(f"config file {file} defines no get_config(); see configs/demo.py")
        try:
            inspect.signature(module.get_config).bind(*arguments)
        except TypeError:
            problem = "needs an argument" if argument is None else "takes no argument"
            choices = ", ".join(itertools.chain(*recipe_choices(module).values()))
            hint = f"; write {file}:ARGUMENT with one of {choices}" if choices else ""
            raise UserError(f"config file {file}: get_config() {problem}{hint}") from None
        try:
            config = module.get_config(*arguments)
        except UserError as error:  # about the argument; it does not name the file
            raise UserError(f"--config {path}: {error}") from error
    if not isinstance(config, ConfigDict):
        raise UserError(
            f"config file {file}: get_config() returned {type(config).__name__}, not a ConfigDict; "
            "see configs/demo.py"
        )
    return config


def run_file(file: Path) -> types.ModuleType:
    """Executes a recipe's file.

    Raises:
        UserError: as `run_recipe`.
    """
    try:
        source = file.read_bytes()
    except FileNotFoundError:
        raise UserError(f"config file {file} does not exist{_files_beside(file)}") from None
    except OSError as error:
        raise UserError(f"config file {file} cannot be read: {error.strerror}") from error
    module = types.ModuleType(f"recipe_{file.stem}")
    module.__file__ = str(file)
    with one_line_errors(file, None):
        exec(compile(source, str(file), "exec"), module.__dict__)
    return module


def recipe_choices(module: types.ModuleType) -> Mapping[str, Mapping[str, str]]:
    """The arguments that a recipe's table `CHOICES` lists, by kind, each with a line about it.

    Args:
        module: its `CHOICES` is kind → argument → line, or argument → line where all are of one
            kind, which then is called "".
    """
    choices = getattr(module, "CHOICES", {})
    nested = all(isinstance(lines, Mapping) for lines in choices.values())
    return choices if nested else {"": choices}


@contextlib.contextmanager
def one_line_errors(file: Path, base: ConfigDict | None) -> Iterator[None]:
    """Turns every exception of a recipe into a `UserError` with the file's line number."""
    try:
        yield
    except (UserError, KeyboardInterrupt):
        raise
    except SyntaxError as error:
        raise UserError(
            f"config file {error.filename or file}, line {error.lineno or 1}: {error.msg}"
        ) from error
    except SystemExit as error:
        raise UserError(
            f"config file {file} ends the program (sys.exit({describe(error.code)})); a recipe "
            "returns its config"
        ) from error
    except BaseException as error:
        lines, config = [], base
        for frame, line in traceback.walk_tb(error.__traceback__):
            if frame.f_code.co_filename == str(file):
                lines.append(line)
                config = next(filter(_is_config, frame.f_locals.values()), config)
        where = f"config file {file}" + (f", line {lines[-1]}" if lines else "")
        raise UserError(f"{where}: {_explain(error, config)}") from error


def _files_beside(file: Path) -> str:
    """The recipes that may have been meant, else all that lie in the folder."""
    names = sorted(
        other.name
        for other in file.parent.glob("*.py")
        if other.name not in ("__init__.py", "base.py", "narrow.py", "networks.py", "paper.py")
    )
    near = difflib.get_close_matches(file.name, names, n=2, cutoff=SIMILAR)
    if near:
        return f"; did you mean {' or '.join(str(file.parent / other) for other in near)}?"
    return f"; {file.parent} has {', '.join(names)}" if names else ""


def _is_config(value: Any) -> bool:
    """Whether a variable of a recipe is its config, which knows the recipe's network."""
    return isinstance(value, ConfigDict) and "model" in value and "name" in value.model


def _explain(error: BaseException, config: ConfigDict | None) -> str:
    """What went wrong in a recipe.

    ml_collections' errors for unknown keys are wordy and know only the key's last part.
    """
    cause = error
    # A wrong attribute is an AttributeError around a KeyError.
    while cause.args and isinstance(cause.args[0], Exception):
        cause = cause.args[0]
    unknown = isinstance(cause, KeyError) and re.match(
        r"""Key "(\w+)" does not exist|'(\w+)'(\n|$)""", str(cause.args[0])
    )
    if unknown and config is not None:
        return no_such_key(unknown[1] or unknown[2], config)
    with contextlib.suppress(Exception):  # of a foreign class's own text
        return f"{type(error).__name__}: {' '.join(str(error).split())}"
    return type(error).__name__
