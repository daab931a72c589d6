"""Configs: recipe files, `--config.key=value` overrides, and one clear line when either is wrong."""

import argparse
import ast
import contextlib
import difflib
import importlib
import json
import math
import re
import sys
import traceback
import types
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from aia_jax.config_check import check
from aia_jax.errors import UserError

_PREFIX = "--config."
_REPOSITORY = Path(__file__).resolve().parents[1]  # holds `configs`, which recipes import from
_SIMILAR = 0.6  # difflib's ratio from which a key is offered as the one that was meant
_ALSO_SIMILAR = 0.1  # others this close to the best are offered too
_WORDS = {"true": True, "1": True, "false": False, "0": False}


def load(path: str | Path, overrides: Sequence[str] = ()) -> ConfigDict:
    """Loads a recipe, applies overrides and checks the result.

    Args:
        path: a Python file that defines `get_config()`; "file.py:text" calls `get_config("text")`.
        overrides: "section.key=value" each; later ones win. Values are read as the field's type:
            true/false/1/0, 1e-3, 20,40.

    Returns:
        A locked config with exactly the fields of configs/base.py.

    Raises:
        UserError: for a file that is missing or broken, a key that does not exist (names the
            nearest), a value of another type or out of range.
    """
    with _repository_importable():
        base = importlib.import_module("configs.base").get_config()
        config = _run_recipe(str(path), base)
    config = _fit(config, base, str(path))
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator:
            raise UserError(f"override {override!r} has no value; write {_PREFIX}{key}=VALUE")
        _assign(config, key, text)
    check(config)
    return config


def name(path: str | Path) -> str:
    """The config's name, which its default workdir carries: the file's stem, and the argument if
    there is one.
    """
    file, argument = _split_argument(str(path))
    return file.stem + (f"-{argument}" if argument else "")


def to_json(config: ConfigDict) -> str:
    """The whole config as indented JSON; `from_json` gives back an equal one."""
    return json.dumps(config.to_dict(), indent=2, allow_nan=False)


def from_json(text: str) -> ConfigDict:
    """Reads what `to_json` wrote. A config holds tuples and no lists, so JSON's lists become
    tuples.
    """
    return ConfigDict(_tuples(json.loads(text))).lock()


def parse(
    argv: Sequence[str] | None,
    description: str,
    extra: Callable[[argparse.ArgumentParser], None] | None = None,
    *,
    workdir: bool = True,
) -> argparse.Namespace:
    """Reads the command line of a command that works on a recipe.

    Args:
        argv: arguments without the program's name; None takes the process's.
        description: the first lines of `--help`.
        extra: adds the command's own arguments to the parser.
        workdir: whether the command works on a run, and so takes `--workdir`.

    Returns:
        A namespace with `config` (loaded and locked), `config_path` (as given), `config_name`,
        `workdir` (a Path; only for a command that takes one) and what `extra` added.

    Raises:
        UserError: see `load`. Arguments that the command does not have end the process with
            argparse's line and status 2.
    """
    arguments, overrides = _take_overrides(sys.argv[1:] if argv is None else argv)
    epilog = "--config.KEY=VALUE sets a field of the recipe, such as --config.train.batch_size=16; configs/base.py has them all."
    parser = argparse.ArgumentParser(description=description, epilog=epilog, allow_abbrev=False)
    parser.add_argument(
        "--config", required=True, metavar="FILE", help="recipe, such as configs/ssv2_aia_tsm.py"
    )
    if workdir:
        parser.add_argument(
            "--workdir", metavar="DIR", help="the run's folder (default: runs/<config name>)"
        )
    if extra is not None:
        extra(parser)
    parsed = parser.parse_args(arguments)
    parsed.config_path, parsed.config_name = parsed.config, name(parsed.config)
    if workdir:
        parsed.workdir = Path(parsed.workdir or Path("runs") / parsed.config_name)
    parsed.config = load(parsed.config, overrides)
    return parsed


def _take_overrides(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Splits `--config.key=value` and `--config.key value` off the other arguments, as "key=value"
    each.
    """
    others, overrides = [], []
    rest = iter(argv)
    for argument in rest:
        if argument == "--":
            return [*others, argument, *rest], overrides
        if not argument.startswith(_PREFIX):
            others.append(argument)
        elif "=" in argument:
            overrides.append(argument.removeprefix(_PREFIX))
        else:
            value = next(rest, None)
            if value is None or value.startswith("--"):
                raise UserError(f"{argument} has no value; write {argument}=VALUE")
            overrides.append(f"{argument.removeprefix(_PREFIX)}={value}")
    return others, overrides


@contextlib.contextmanager
def _repository_importable() -> Iterator[None]:
    """Lets a recipe import its base from any working directory."""
    sys.path.insert(0, str(_REPOSITORY))
    try:
        yield
    finally:
        sys.path.remove(str(_REPOSITORY))


def _split_argument(path: str) -> tuple[Path, str | None]:
    match = re.fullmatch(r"(?P<file>.+\.py)(?::(?P<argument>.*))?", path, re.DOTALL)
    if match is None:
        raise UserError(f"--config {path}: a recipe is a Python file, such as configs/demo.py")
    return Path(match["file"]), match["argument"]


def _run_recipe(path: str, base: ConfigDict) -> ConfigDict:
    """Executes the file and calls its `get_config`; every exception becomes one line with the
    file's line number.
    """
    file, argument = _split_argument(path)
    try:
        source = file.read_bytes()
    except FileNotFoundError:
        raise UserError(f"config file {file} does not exist{_files_beside(file)}") from None
    except OSError as error:
        raise UserError(f"config file {file} cannot be read: {error.strerror}") from error

    module = types.ModuleType(f"recipe_{file.stem}")
    module.__file__ = str(file)
    try:
        exec(compile(source, str(file), "exec"), module.__dict__)
        if not callable(getattr(module, "get_config", None)):
            raise UserError(f"config file {file} defines no get_config(); see configs/demo.py")
        config = module.get_config() if argument is None else module.get_config(argument)
    except UserError:
        raise
    except SyntaxError as error:
        raise UserError(
            f"config file {error.filename or file}, line {error.lineno or 1}: {error.msg}"
        ) from error
    except Exception as error:
        lines = [
            frame.lineno
            for frame in traceback.extract_tb(error.__traceback__)
            if frame.filename == str(file)
        ]
        where = f"config file {file}" + (f", line {lines[-1]}" if lines else "")
        raise UserError(f"{where}: {_explain(error, base)}") from error
    if not isinstance(config, ConfigDict):
        raise UserError(
            f"config file {file}: get_config() returned {type(config).__name__}, not a ConfigDict; "
            "see configs/demo.py"
        )
    return config


def _files_beside(file: Path) -> str:
    """The recipes that may have been meant, else all that lie in the folder."""
    names = sorted(
        other.name
        for other in file.parent.glob("*.py")
        if other.name not in ("__init__.py", "base.py")
    )
    near = difflib.get_close_matches(file.name, names, n=2, cutoff=_SIMILAR)
    if near:
        return f"; did you mean {' or '.join(str(file.parent / other) for other in near)}?"
    return f"; {file.parent} has {', '.join(names)}" if names else ""


def _explain(error: Exception, base: ConfigDict) -> str:
    """What went wrong in a recipe. ml_collections' errors for unknown keys are wordy and know only
    the key's last part.
    """
    cause = error
    while cause.args and isinstance(
        cause.args[0], Exception
    ):  # a wrong attribute is an AttributeError around a KeyError
        cause = cause.args[0]
    unknown = isinstance(cause, KeyError) and re.match(
        r"""Key "(\w+)" does not exist|'(\w+)'(\n|$)""", str(cause.args[0])
    )
    if unknown:
        return _no_such_key(unknown[1] or unknown[2], base)
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _leaves(config: ConfigDict, prefix: str = "") -> dict[str, Any]:
    """Every field by its dotted key."""
    leaves = {}
    for key, value in config.items():
        leaves |= (
            _leaves(value, f"{prefix}{key}.")
            if isinstance(value, ConfigDict)
            else {prefix + key: value}
        )
    return leaves


def _no_such_key(key: str, base: ConfigDict) -> str:
    """One line that names the keys that may have been meant."""
    keys = list(_leaves(base))
    sections = {known.rpartition(".")[0] for known in keys} - {""}

    def similarity(candidate: str) -> float:
        whole = difflib.SequenceMatcher(None, key, candidate).ratio()
        last = difflib.SequenceMatcher(
            None, key.rpartition(".")[2], candidate.rpartition(".")[2]
        ).ratio()
        return max(
            whole, 0.9 * last + 0.1 * whole
        )  # the last part alone: the section was left out or is wrong

    known = sorted(keys if "." in key else [*keys, *sections], key=similarity, reverse=True)
    best = similarity(known[0])
    section = key.rpartition(".")[0]
    if best >= _SIMILAR:
        near = [
            candidate for candidate in known[:3] if similarity(candidate) > best - _ALSO_SIMILAR
        ]
        return f"no config key {key!r}; did you mean {' or '.join(near)}?"
    if section in sections:
        return f"no config key {key!r}; {section} has {', '.join(base[section])}"
    return f"no config key {key!r}; configs/base.py has them all"


def _fit(config: ConfigDict, base: ConfigDict, path: str) -> ConfigDict:
    """A recipe's config with exactly the base's fields and types; a recipe may have unlocked it or
    built its own.
    """
    found, expected = _leaves(config), _leaves(base)
    for key in found:
        if key not in expected:
            raise UserError(f"config file {path}: {_no_such_key(key, base)}")
    missing = [key for key in expected if key not in found]
    if missing:
        raise UserError(
            f"config file {path} lacks {', '.join(missing)}; start from configs.base.get_config()"
        )
    base.update_from_flattened_dict(
        {key: _as_type(value, expected[key], f"{key} in {path}") for key, value in found.items()}
    )
    return base


def _assign(config: ConfigDict, key: str, text: str) -> None:
    """Sets one field from the command line's text."""
    leaves = _leaves(config)
    if key not in leaves:
        if any(leaf.startswith(f"{key}.") for leaf in leaves):
            raise UserError(
                f"config key {key} is a section; set one of its keys: {', '.join(config[key])}"
            )
        raise UserError(_no_such_key(key, config))
    config.update_from_flattened_dict({key: _as_type(_read(text, leaves[key]), leaves[key], key)})


def _read(text: str, like: Any) -> Any:
    """The value that a text spells if the field is like `like`; the text itself where it spells
    none, for `_as_type` to refuse.
    """
    if isinstance(like, str):
        return text
    if isinstance(like, bool):
        return _WORDS.get(text.lower(), text)
    with contextlib.suppress(ValueError, SyntaxError):
        if isinstance(like, int):
            return int(text)
        if isinstance(like, float):
            return float(text)
        value = ast.literal_eval(f"({text.strip()})") if text.strip() else ()
        return value if isinstance(value, (tuple, list)) else (value,)
    return text


def _as_type(value: Any, like: Any, key: str) -> Any:
    """`value` as the type of `like`, where nothing is lost by it; lists become tuples.

    A tuple of whole numbers takes whole numbers only, and so does an empty one; a tuple with
    fractions takes both.
    """
    if isinstance(like, tuple) and isinstance(value, (tuple, list)):
        if all(isinstance(item, (int, float)) for item in like):
            item = next((item for item in like if isinstance(item, float)), 0)
            with contextlib.suppress(UserError):
                return tuple(_as_type(number, item, key) for number in value)
        else:
            return _tuples(value)
    elif type(value) is type(like) and not (isinstance(value, float) and not math.isfinite(value)):
        return value
    elif isinstance(like, float) and type(value) is int:
        return float(value)
    raise UserError(f"config key {key}: found {value!r}, expected {_type_name(like)}")


def _tuples(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return tuple(map(_tuples, value))
    return {key: _tuples(item) for key, item in value.items()} if isinstance(value, dict) else value


def _type_name(like: Any) -> str:
    if isinstance(like, tuple):
        numbers = all(isinstance(item, (int, float)) for item in like)
        kind = "numbers" if any(isinstance(item, float) for item in like) else "whole numbers"
        return (
            f"{kind} with commas between them, such as {','.join(map(str, like)) or '1,2'}"
            if numbers
            else f"a tuple such as {like!r}"
        )
    return {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}[
        type(like)
    ]
