"""The networks that a recipe's argument names, and the reader of that argument.

    --config configs/ssv2.py:aia_tsm        --config configs/egtea.py:tsm,split=2

A recipe is a data set's file; its argument names the network and the data set's options. A network
is one row of `NETWORKS`, for all data sets.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from aia_jax.errors import UserError
from configs import base
from configs.paper import Reported, paper_text


class Network(NamedTuple):
    """A row of the table of networks."""

    title: str  # for people
    # What it sets in `config.model`: `name`, the row of `aia_jax.models.NETWORKS` that has its
    # class, and fields of that class; the others keep their defaults.
    fields: Mapping[str, Any]


NETWORKS: Mapping[str, Network] = {
    "tsn": Network("TSN", {"name": "resnet", "temporal": "tsn", "attention": "none"}),
    "tsm": Network("TSM", {"name": "resnet", "temporal": "tsm", "attention": "none"}),
    "aia_tsn": Network(
        "TSN with CinST->STinC",
        {"name": "resnet", "temporal": "tsn", "attention": "CinST->STinC"},
    ),
    "aia_tsm": Network(
        "TSM with CinST->STinC",
        {"name": "resnet", "temporal": "tsm", "attention": "CinST->STinC"},
    ),
}


class Option(NamedTuple):
    """An option of a data set, written `name=value` in the argument."""

    values: tuple[str, ...]  # all that it may be; the first is taken where the argument has none
    title: str  # what it chooses, for people


class Choice(NamedTuple):
    """What an argument names."""

    name: str  # of the network
    network: Network
    options: Mapping[str, str]  # the value of every option of the data set

    @property
    def argument(self) -> str:
        """The argument in full, "tsm,split=2": the key of a data set's table of paper numbers."""
        return _join(self.name, self.options)

    def start_config(self, paper: Mapping[str, Reported] | None = None) -> ConfigDict:
        """Returns base.py's defaults with this network's fields.

        Args:
            paper: the data set's table of paper numbers, for `config.paper`; None leaves it empty.
        """
        config = base.get_config()
        base.use_network(config, **self.network.fields)
        if paper is not None:
            config.paper = paper_text(paper, self.argument, self.network.title)
        return config


@dataclass(frozen=True)
class Argument:
    """The argument that a recipe's file takes."""

    options: Mapping[str, Option] = field(default_factory=dict)
    default: str = "aia_tsm"  # the network where the argument names none
    networks: Mapping[str, Network] = field(default_factory=lambda: NETWORKS)

    def parse(self, text: str) -> Choice:
        """Reads an argument.

        Args:
            text: a network and options in any order, with commas between them. Each that is left
                out takes its default; "" leaves out all.

        Raises:
            UserError: (a ValueError) for an unknown network, option or value, and for one that
                comes twice. It lists the right ones.
        """
        named: list[str] = []
        options: dict[str, str] = {}
        for word in map(str.strip, text.split(",") if text.strip() else ()):
            name, separator, value = map(str.strip, word.partition("="))
            if not separator:
                if word not in self.networks:
                    raise UserError(f"there is no network {word!r}; {self._usage()}")
                named.append(word)
            elif name not in self.options:
                raise UserError(f"there is no option {name!r}; {self._usage()}")
            elif name in options:
                raise UserError(f"the option {name} comes twice; {self._usage()}")
            elif value not in self.options[name].values:
                raise UserError(f"there is no {name} {value!r}; {self._usage()}")
            else:
                options[name] = value
        if len(named) > 1:
            raise UserError(f"{' and '.join(named)} are {len(named)} networks; name one")
        name = named[0] if named else self.default
        chosen = {key: options.get(key, option.values[0]) for key, option in self.options.items()}
        return Choice(name, self.networks[name], chosen)

    def describe(self, paper: Mapping[str, Reported] | None = None) -> dict[str, str]:
        """The networks and options with a line for each, for a recipe's `CHOICES` and its `--help`.

        Args:
            paper: the data set's table of paper numbers, to be named beside each network.
        """
        lines = {}
        for name, network in self.networks.items():
            title = network.title + (", the default" if name == self.default else "")
            lines[name] = title if paper is None else f"{title}; {self._reported(name, paper)}"
        for name, option in self.options.items():
            lines[_spell(name, option)] = f"{option.title}; {option.values[0]} is the default"
        return lines

    def _reported(self, network: str, paper: Mapping[str, Reported]) -> str:
        """The paper's top-1 for a network with every value of the options."""
        found = []
        for values in itertools.product(*(option.values for option in self.options.values())):
            options = dict(zip(self.options, values, strict=True))
            argument = _join(network, options)
            if argument in paper:
                notes = [f"{name}={value}" for name, value in options.items()]
                if (clips := paper[argument].clips or 1) > 1:
                    notes.append(f"{clips} clips")
                note = f" ({', '.join(notes)})" if notes else ""
                found.append(f"{paper[argument].top1:.1f}%{note}")
        return f"the paper's {', '.join(found)} top-1" if found else "no number in the paper"

    def _usage(self) -> str:
        """The rest of an error's line: what the argument may be."""
        networks = f"networks: {', '.join(self.networks)}"
        options = ", ".join(_spell(name, option) for name, option in self.options.items())
        return f"{networks}; options: {options or 'none'}"


def _spell(name: str, option: Option) -> str:
    return f"{name}={'|'.join(option.values)}"


def _join(network: str, options: Mapping[str, str]) -> str:
    return ",".join([network, *(f"{name}={value}" for name, value in options.items())])
