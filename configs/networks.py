"""The networks that a recipe's argument names, and the reader of that argument.

    --config configs/ssv2.py:aia_tsm        --config configs/egtea.py:tsm,svmix,split=2

A recipe is a data set's file; its argument names the network, a way to train it other than its
authors' (configs/methods.py), and the data set's options. A network is one row of `NETWORKS`, for
all data sets, with the recipe that its authors train it by.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from aia_jax.config_fields import set_field
from aia_jax.errors import UserError
from configs import base
from configs.methods import METHODS, Settings
from configs.paper import Reported, paper_text, reported_texts


class Network(NamedTuple):
    """A row of the table of networks."""

    title: str  # for people
    # What it sets in `config.model`: `name`, the row of `aia_jax.models.NETWORKS` that has its
    # class, and fields of that class; the others keep their defaults.
    fields: Mapping[str, Any]
    kind: str = "networks"  # the heading under which `--help` lists it
    # What its authors train it by where that differs from base.py: dotted keys of a config.
    recipe: Mapping[str, Any] = {}


# The reference's train.py. Batch 8 is what its learning rate belongs to.
_H2CN_RECIPE = {
    "optim.lr_batch_size": 8,
    "optim.weight_decay": 5e-4,
    "optim.milestones": (30, 45, 55),
    "train.batch_size": 8,
    "train.epochs": 60,
}
# k400_vit_8x32_224.yml and its siblings. 42 clips a pass, gradients averaged over 10 passes.
_VIT_RECIPE = {
    "data.resize": "short224",
    "data.short_side": (224, 329),
    "optim.lr": 0.1,
    "optim.lr_batch_size": 420,
    "optim.weight_decay": 0.0,
    "optim.clip_norm": 1.0,
    "optim.milestones": (10, 15),
    "train.batch_size": 420,
    "train.accumulate": 10,
    "train.epochs": 18,
    "train.label_smoothing": 0.01,
}
# The reference's opts.py.
_GST_RECIPE = {
    "data.resize": "short256",
    "optim.lr_batch_size": 24,
    "optim.weight_decay": 3e-4,
    "optim.milestones": (50, 60),
    "train.batch_size": 24,
    "train.epochs": 70,
}
# "To train on Something-Something" of mit-han-lab's README.
_TSM_NL_RECIPE = {"optim.lr_batch_size": 64, "train.batch_size": 64}

_AIA, _PLUGINS = "TSN, TSM, and attention in attention", "gates of other papers"
_CONVOLUTIONS, _TRANSFORMERS = "other convolutional networks", "vision transformers"
_METHODS_KIND = "ways to train, beside a network"
_PLUGIN_NAMES = ("SE3D", "GE3D-G", "GE3D-DW133", "GE3D-DW333", "S3D-G", "CBAM3D177", "CBAM3D377")
_MSCA_SHIFTS = ("KV", "Q", "K", "V", "QK", "QV", "QKV")


def _resnet(temporal: str, attention: str, kind: str) -> Network:
    """TSN or TSM with attention in its bottlenecks; base.py has its recipe."""
    gates = "" if attention == "none" else f" with {attention}"
    fields = {"name": "resnet", "temporal": temporal, "attention": attention}
    return Network(temporal.upper() + gates, fields, kind)


NETWORKS: Mapping[str, Network] = {
    "tsn": _resnet("tsn", "none", _AIA),
    "tsm": _resnet("tsm", "none", _AIA),
    "aia_tsn": _resnet("tsn", "CinST->STinC", _AIA),
    "aia_tsm": _resnet("tsm", "CinST->STinC", _AIA),
    # "se3d" is on TSN, as in the paper's Table I; "se3d_tsm" on TSM.
    **{
        name.lower().replace("-", "_") + suffix: _resnet(temporal, name, _PLUGINS)
        for temporal, suffix in (("tsn", ""), ("tsm", "_tsm"))
        for name in _PLUGIN_NAMES
    },
    "tsm_nl": Network(
        "TSM with non-local blocks",
        {"name": "resnet", "temporal": "tsm", "non_local": True},
        _CONVOLUTIONS,
        _TSM_NL_RECIPE,
    ),
    "h2cn": Network("H2CN", {"name": "h2cn"}, _CONVOLUTIONS, _H2CN_RECIPE),
    "gst": Network("GST", {"name": "gst", "dropout": 0.3}, _CONVOLUTIONS, _GST_RECIPE),
    "gst_large": Network(
        "GST-Large", {"name": "gst", "beta": 1, "dropout": 0.3}, _CONVOLUTIONS, _GST_RECIPE
    ),
    "c3d": Network("C3D", {"name": "c3d"}, _CONVOLUTIONS),
    "vit": Network("ViT-B/16", {"name": "vit"}, _TRANSFORMERS, _VIT_RECIPE),
    "tokshift": Network(
        "TokShift, ViT-B/16", {"name": "vit", "shift": "token"}, _TRANSFORMERS, _VIT_RECIPE
    ),
    **{
        f"msca_{shift.lower()}": Network(
            f"MSCA-{shift}, ViT-B/16", {"name": "vit", "shift": shift}, _TRANSFORMERS, _VIT_RECIPE
        )
        for shift in _MSCA_SHIFTS
    },
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
    method: str = ""  # a row of `METHODS`; "": the network is trained by its authors' recipe

    @property
    def argument(self) -> str:
        """The argument in full, "tsm,split=2": the key of a data set's table of paper numbers."""
        return _join(self.name, self.method, self.options)

    def bare_config(self) -> ConfigDict:
        """Returns base.py's defaults with this network's fields, without its recipe and method.

        It is for networks of other sizes, such as the demo's, which train otherwise.
        """
        config = base.get_config()
        base.use_network(config, **self.network.fields)
        return config

    def start_config(
        self,
        paper: Mapping[str, Reported] | None = None,
        recipes: Mapping[str, Mapping[str, Any]] | None = None,
        methods: Mapping[str, Settings] | None = None,
    ) -> ConfigDict:
        """Returns base.py's defaults with this network's fields, its recipe and the method's.

        What a data set's file sets afterwards is the data set's.

        Args:
            paper: the data set's table of paper numbers, for `config.paper` and the number of
                frames; None leaves them alone.
            recipes: where a network is trained otherwise on this data set: its name → dotted keys
                and values. They come after those of its row.
            methods: where a method is another on this data set: its name → what it sets. It comes
                last.
        """
        config = self.bare_config()
        changes = {**self.network.recipe, **(recipes or {}).get(self.name, {})}
        for key, value in changes.items():
            set_field(config, key, value)
        self.set_method(config, {name: method.settings for name, method in METHODS.items()})
        self.set_method(config, methods or {})
        if paper is not None:
            config.paper = paper_text(paper, self.argument, self.network.title, self.method)
            reported = paper.get(self.argument, paper.get(self._replace(method="").argument))
            if reported is not None:
                config.data.num_frames = reported.frames
        return config

    def set_method(self, config: ConfigDict, methods: Mapping[str, Settings]) -> None:
        """Sets what `methods` have for the method and the network of this choice."""
        settings = methods.get(self.method, Settings())
        network, recipe = self.network.fields["name"], self.network.recipe
        for key, value in settings.of(network, bool(recipe)).items():
            set_field(config, key, value)


@dataclass(frozen=True)
class Argument:
    """The argument that a recipe's file takes."""

    options: Mapping[str, Option] = field(default_factory=dict)
    default: str = "aia_tsm"  # the network where the argument names none
    networks: Mapping[str, Network] = field(default_factory=lambda: NETWORKS)

    def parse(self, text: str) -> Choice:
        """Reads an argument.

        Args:
            text: a network, a method and options in any order, with commas between them. Each that
                is left out takes its default; "" leaves out all.

        Raises:
            UserError: (a ValueError) for an unknown network, method, option or value, and for one
                that comes twice. It lists the right ones.
        """
        named: list[str] = []
        methods: list[str] = []
        options: dict[str, str] = {}
        for word in map(str.strip, text.split(",") if text.strip() else ()):
            name, separator, value = map(str.strip, word.partition("="))
            if not separator:
                if word not in (*self.networks, *METHODS):
                    raise UserError(f"there is no network or method {word!r}; {self._usage()}")
                (methods if word in METHODS else named).append(word)
            elif name not in self.options:
                raise UserError(f"there is no option {name!r}; {self._usage()}")
            elif name in options:
                raise UserError(f"the option {name} comes twice; {self._usage()}")
            elif value not in self.options[name].values:
                raise UserError(f"there is no {name} {value!r}; {self._usage()}")
            else:
                options[name] = value
        for words, noun in ((named, "networks"), (methods, "methods")):
            if len(words) > 1:
                raise UserError(f"{' and '.join(words)} are {len(words)} {noun}; name one")
        name = named[0] if named else self.default
        chosen = {key: options.get(key, option.values[0]) for key, option in self.options.items()}
        return Choice(name, self.networks[name], chosen, "".join(methods))

    def describe(self, paper: Mapping[str, Reported] | None = None) -> dict[str, dict[str, str]]:
        """The networks, methods and options, by kind, a line for each: a recipe's `CHOICES`.

        `--help` beside the recipe prints them.

        Args:
            paper: the data set's table of paper numbers, to be named beside each network.
        """
        lines: dict[str, dict[str, str]] = {}
        for name, network in self.networks.items():
            title = network.title + (", the default" if name == self.default else "")
            numbers = self._reported(name, "", paper or {})
            lines.setdefault(network.kind, {})[name] = "; ".join([title, *numbers])
        for word, method in METHODS.items():
            numbers = [
                f"{name}: {text}"
                for name in self.networks
                for text in self._reported(name, word, paper or {})
            ]
            lines.setdefault(_METHODS_KIND, {})[word] = "; ".join([method.title, *numbers])
        for name, option in self.options.items():
            line = f"{option.title}; {option.values[0]} is the default"
            lines.setdefault("options", {})[_spell(name, option)] = line
        return lines

    def _reported(self, network: str, method: str, paper: Mapping[str, Reported]) -> list[str]:
        """What is reported for a network with every value of the options, a text a source."""
        found = []
        for values in itertools.product(*(option.values for option in self.options.values())):
            options = dict(zip(self.options, values, strict=True))
            argument = _join(network, method, options)
            if argument in paper:
                notes = [f"{name}={value}" for name, value in options.items()]
                found += [(number, notes) for number in (paper[argument], *paper[argument].others)]
        return reported_texts(found)

    def _usage(self) -> str:
        """The rest of an error's line: what the argument may be."""
        networks = f"networks: {', '.join(self.networks)}"
        methods = f"methods: {', '.join(METHODS)}"
        options = ", ".join(_spell(name, option) for name, option in self.options.items())
        return f"{networks}; {methods}; options: {options or 'none'}"


def _spell(name: str, option: Option) -> str:
    return f"{name}={'|'.join(option.values)}"


def _join(network: str, method: str, options: Mapping[str, str]) -> str:
    words = [network, method, *(f"{name}={value}" for name, value in options.items())]
    return ",".join(filter(None, words))
