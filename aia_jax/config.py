"""Configs: recipe files, `--config.key=value` overrides, and one line when either is wrong."""

import argparse
import importlib
import itertools
import json
import re
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path

from ml_collections import ConfigDict

from aia_jax.config_check import check
from aia_jax.config_fields import (
    add_missing,
    assign,
    fit,
    set_field,
    switch_network,
    tuples,
    use_network,
)
from aia_jax.config_file import (
    one_line_errors,
    recipe_choices,
    repository_importable,
    run_file,
    run_recipe,
    split_argument,
)
from aia_jax.errors import UserError
from aia_jax.models import NETWORKS, model_from_config

_PREFIX = "--config."


def load(path: str | Path, overrides: Sequence[str] = ()) -> ConfigDict:
    """Loads a recipe, applies overrides and checks the result.

    Args:
        path: a Python file that defines `get_config()`; "file.py:text" calls `get_config("text")`.
        overrides: "section.key=value" each; later ones win. Values are read as the field's type:
            true/false/1/0, 1e-3, 20,40. "model.name=…" acts before all others: it replaces the
            recipe's network, and the fields that the recipe chose stay.

    Returns:
        A locked config with exactly the fields of configs/base.py and of its network. Where
        `optim.groups` is empty it has the network's.

    Raises:
        UserError: for a file that is missing or broken, a key that does not exist (names the
            nearest, or the network that has it), a value of another type or out of range.
    """
    with repository_importable():
        base = importlib.import_module("configs.base").get_config()
        config = run_recipe(str(path), base)
    with one_line_errors(split_argument(str(path))[0], None):
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
    if not config.optim.groups:
        set_field(config, "optim.groups", tuples(model_from_config(config).optim_groups))
    return config


def name(path: str | Path) -> str:
    """The config's name, after which its default workdir is called.

    It is the file's stem and the argument's words, in which anything but letters, digits and "-"
    becomes "_": "egtea_tsm_split2" for "configs/egtea.py:tsm,split=2".
    """
    file, argument = split_argument(str(path))
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
    with repository_importable():
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
    recipe_needed: bool = True,
    instead: str = "",
) -> argparse.Namespace:
    """Reads the command line of a command that works on a recipe.

    `--help` beside `--config FILE` also prints what that recipe says about itself.

    Args:
        argv: arguments without the program's name; None takes the process's.
        description: the first lines of `--help`.
        extra: adds the command's own arguments to the parser.
        workdir: whether the command works on a run, and so takes `--workdir`.
        recipe_needed: whether there must be a recipe. If not, `config` is the bare recipe, without
            the overrides, or None; the caller applies them to the run's own config.
        instead: an argument of `extra` that may stand in place of `--workdir`.

    Returns:
        A namespace with `config` (loaded and locked), `config_path` (as given), `config_name`,
        `overrides` ("key=value" each), `workdir` (a Path; only for a command that takes one) and
        what `extra` added.

    Raises:
        UserError: see `load`. Arguments that the command does not have end the process with
            argparse's line and status 2.
    """
    arguments, overrides = take_overrides(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(
        description=description,
        epilog=_epilog(arguments),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--config",
        required=recipe_needed,
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
    parsed.overrides, parsed.config_path = overrides, parsed.config
    other = instead and getattr(parsed, instead) is not None
    if other and parsed.workdir is not None:
        parser.error(f"--workdir and --{instead} name two things; leave one out")
    if parsed.config is None:
        if parsed.workdir is None and not other:
            or_other = f", or --{instead} DIR" if instead else ""
            parser.error(f"name the run's folder: --workdir DIR{or_other}")
        parsed.config_name = None
        parsed.workdir = parsed.workdir and Path(parsed.workdir)
        return parsed
    parsed.config_name = name(parsed.config)
    if workdir:
        parsed.workdir = Path(parsed.workdir or Path("runs") / parsed.config_name)
    parsed.config = load(parsed.config, overrides if recipe_needed else ())
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
    """The recipe's docstring, and a line for each argument in its table `CHOICES`, by kind."""
    file, _ = split_argument(path)
    with repository_importable():
        module = run_file(file)
    text = f"{file}: {(module.__doc__ or 'a recipe').strip()}"
    choices = recipe_choices(module)
    arguments = list(itertools.chain(*choices.values()))
    if arguments:
        text += f"\n\narguments, as in {file}:{arguments[0]}"
        width = max(map(len, arguments))
    for kind, lines in choices.items():
        text += f"\n {kind}" if kind else ""
        text += "".join(f"\n  {argument:<{width}}  {line}" for argument, line in lines.items())
    return text


def take_overrides(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Splits `--config.key=value` and `--config.key value` off the other arguments.

    Returns:
        The other arguments, and each override as "key=value".

    Raises:
        UserError: an override has no value.
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
