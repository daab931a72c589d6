"""Configs: recipe files, `--config.key=value` overrides, and one line when either is wrong."""

import argparse
import contextlib
import difflib
import importlib
import inspect
import json
import re
import sys
import textwrap
import traceback
import types
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from aia_jax.config_check import check
from aia_jax.config_fields import (
    SIMILAR,
    add_missing,
    assign,
    fit,
    no_such_key,
    switch_network,
    tuples,
    use_network,
)
from aia_jax.errors import UserError
from aia_jax.models import NETWORKS

_PREFIX = "--config."
_REPOSITORY = Path(__file__).resolve().parents[1]  # holds `configs`, which recipes import from


def load(path: str | Path, overrides: Sequence[str] = ()) -> ConfigDict:
    """Loads a recipe, applies overrides and checks the result.

    Args:
        path: a Python file that defines `get_config()`; "file.py:text" calls `get_config("text")`.
        overrides: "section.key=value" each; later ones win. Values are read as the field's type:
            true/false/1/0, 1e-3, 20,40. "model.name=…" acts before all others: it replaces the
            recipe's network, and the fields that the recipe chose stay.

    Returns:
        A locked config with exactly the fields of configs/base.py and of its network.

    Raises:
        UserError: for a file that is missing or broken, a key that does not exist (names the
            nearest, or the network that has it), a value of another type or out of range.
    """
    with _repository_importable():
        base = importlib.import_module("configs.base").get_config()
        config = _run_recipe(str(path), base)
    config = fit(config, base, str(path))
    pairs = []
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator:
            raise UserError(f"override {override!r} has no value; write {_PREFIX}{key}=VALUE")
        pairs.append((key, text))
    networks = [text for key, text in pairs if key == "model.name"]
    if networks:
        switch_network(config, networks[-1])
    for key, text in pairs:
        if key != "model.name":
            assign(config, key, text)
    check(config)
    return config


def name(path: str | Path) -> str:
    """The config's name, after which its default workdir is called.

    It is the file's stem and the argument's words, in which anything but letters, digits and "-"
    becomes "_": "egtea_tsm_split2" for "configs/egtea.py:tsm,split=2".
    """
    file, argument = _split_argument(str(path))
    words = (argument or "").replace("=", "").split(",")
    words = [re.sub(r"[^\w-]+", "_", word).strip("_") for word in words]
    return "_".join([file.stem, *filter(None, words)])


def to_json(config: ConfigDict) -> str:
    """The whole config as indented JSON; `from_json` gives back an equal one."""
    return json.dumps(config.to_dict(), indent=2, allow_nan=False)


def from_json(text: str) -> ConfigDict:
    """Reads what `to_json` wrote, also in an older version of this project.

    JSON's lists become tuples, because a config holds no lists. Fields that the text lacks get
    their defaults; a config without `model.name` is a ResNet's.
    """
    config = ConfigDict(tuples(json.loads(text)))
    defaults = _defaults()
    network = config.get("model", {}).get("name", defaults.model.name)
    if network in NETWORKS:
        use_network(defaults, network)
        add_missing(config, defaults)
    return config.lock()


def _defaults() -> ConfigDict:
    """The fields of configs/base.py; where there is no such file, the network's alone.

    An installed package has no folder `configs` beside it, and a trained network needs nothing of
    it.
    """
    with _repository_importable():
        try:
            return importlib.import_module("configs.base").get_config()
        except ModuleNotFoundError:
            return ConfigDict({"model": {"name": "resnet"}})


def parse(
    argv: Sequence[str] | None,
    description: str,
    extra: Callable[[argparse.ArgumentParser], None] | None = None,
    *,
    workdir: bool = True,
) -> argparse.Namespace:
    """Reads the command line of a command that works on a recipe.

    `--help` beside `--config FILE` also prints what that recipe says about itself.

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
    parser = argparse.ArgumentParser(
        description=description,
        epilog=_epilog(arguments),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--config",
        required=True,
        metavar="FILE[:ARGUMENT]",
        help="recipe, such as configs/ssv2_aia_tsm.py; --help beside it shows its arguments",
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


def _epilog(arguments: Sequence[str]) -> str:
    """The end of `--help`, with what the recipe says of itself if help is asked for beside one."""
    epilog = textwrap.fill(
        f"{_PREFIX}KEY=VALUE sets a field of the recipe, such as {_PREFIX}train.batch_size=16; "
        "configs/base.py has them all.",
        width=90,
    )
    flags = arguments[: arguments.index("--")] if "--" in arguments else arguments
    if not {"-h", "--help"} & set(flags):
        return epilog
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    finder.add_argument("--config", nargs="?")
    recipe = finder.parse_known_args(flags)[0].config
    return epilog if recipe is None else f"{epilog}\n\n{_describe_recipe(recipe)}"


def _describe_recipe(path: str) -> str:
    """The recipe's docstring, and a line for each argument in its table `CHOICES`."""
    file, _ = _split_argument(path)
    with _repository_importable():
        module = _run_file(file)
    text = f"{file}: {(module.__doc__ or 'a recipe').strip()}"
    choices = getattr(module, "CHOICES", None)
    if choices:
        width = max(map(len, choices))
        lines = (f"  {argument:<{width}}  {line}" for argument, line in choices.items())
        text += "\n\n" + "\n".join([f"arguments, as in {file}:{next(iter(choices))}", *lines])
    return text


def _take_overrides(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Splits `--config.key=value` and `--config.key value` off the other arguments.

    Returns:
        The other arguments, and each override as "key=value".
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
    """Executes the file and calls its `get_config`."""
    file, argument = _split_argument(path)
    module = _run_file(file)
    arguments = () if argument is None else (argument,)
    with _one_line_errors(file, base):
        if not callable(getattr(module, "get_config", None)):
            raise UserError(f"config file {file} defines no get_config(); see configs/demo.py")
        try:
            inspect.signature(module.get_config).bind(*arguments)
        except TypeError:
            problem = "needs an argument" if argument is None else "takes no argument"
            choices = ", ".join(getattr(module, "CHOICES", ()))
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


def _run_file(file: Path) -> types.ModuleType:
    """Executes a recipe's file."""
    try:
        source = file.read_bytes()
    except FileNotFoundError:
        raise UserError(f"config file {file} does not exist{_files_beside(file)}") from None
    except OSError as error:
        raise UserError(f"config file {file} cannot be read: {error.strerror}") from error
    module = types.ModuleType(f"recipe_{file.stem}")
    module.__file__ = str(file)
    with _one_line_errors(file, None):
        exec(compile(source, str(file), "exec"), module.__dict__)
    return module


@contextlib.contextmanager
def _one_line_errors(file: Path, base: ConfigDict | None) -> Iterator[None]:
    """Turns every exception of a recipe into a `UserError` with the file's line number."""
    try:
        yield
    except UserError:
        raise
    except SyntaxError as error:
        raise UserError(
            f"config file {error.filename or file}, line {error.lineno or 1}: {error.msg}"
        ) from error
    except Exception as error:
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
        if other.name not in ("__init__.py", "base.py", "networks.py", "paper.py")
    )
    near = difflib.get_close_matches(file.name, names, n=2, cutoff=SIMILAR)
    if near:
        return f"; did you mean {' or '.join(str(file.parent / other) for other in near)}?"
    return f"; {file.parent} has {', '.join(names)}" if names else ""


def _is_config(value: Any) -> bool:
    """Whether a variable of a recipe is its config, which knows the recipe's network."""
    return isinstance(value, ConfigDict) and "model" in value and "name" in value.model


def _explain(error: Exception, config: ConfigDict | None) -> str:
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
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
