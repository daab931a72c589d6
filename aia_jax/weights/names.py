"""Pairs every variable of a network with one key of a PyTorch state dict.

A variable is named by its path, such as `params/stem/conv/kernel`. The file `torch_names.py` of the
network's folder says what its counterpart is called and how the axes lie there. Nothing in
`weights/` knows a network: a new network, or a new source of checkpoints, changes that file only.
Such a file imports jax, flax, numpy, `errors` and `models` only, and offers the following. A
*canonical key* is a key without what differs between the sources, such as prefixes; *names* are
paths of variables or canonical keys.

    table(model)
        Rows (pattern of a variable's path, canonical key, axes) that match each variable once. The
        key may refer to the pattern's groups; `Target` explains the axes.
    entries(state_dict, model)
        Rows (canonical key, key, array), of the arrays that a variable may come from. This is the
        place to drop arrays that no network uses, and to cut or resize those of another size.
        Raises UserError where none of them can fit; its lines are problems.
    reference_key(canonical key, model)
        The key in the state dict of the authors' own network, which `to_torch` writes.
    unused_arrays(model)
        Key → array, of what the authors' own network has and never uses, for its strict loading.
        Only where it has such arrays; `entries` drops them.
    is_backbone(name)
        Whether the name belongs to the part that every start from weights must fill. A backbone key
        of the file that no variable corresponds to is an error.
    optional_module(name)
        The module that the name belongs to, if that module loads whole or not at all; else None.
    describe_size(names)
        The network's size, such as "ResNet-50 (3-4-6-3 blocks)"; None where the names show none.
    SIZE_FIELDS
        The keys of the config that set the size, for error messages.
    pretrained_source(model)
        The public network whose weights a recipe starts from, such as "a ResNet-50".
    shown_fields(keys)
        Fields of the network that a file's keys show and no shape does, such as {"temporal":
        "tsm"}; {} where they show none. Raises UserError if no fields give the file's network.
    contradiction(keys, model)
        A line that says in what the keys show another network than `model`, which has the same
        variables; None where they do not.
    compare_start(fields, model)
        Notes on how `model` differs from the network of the weights that it starts from, as far as
        `fields` of that one are known. Raises UserError for a difference that nobody can mean.
    recognise(state_dict)
        What a state dict is, in a line; None if it is of no network of this family. Raises
        UserError for a relative of the family that does not load.

A network that needs them offers these too; their defaults do nothing:

    fit_variables(variables, model)
        This project's variables, path to array, of a folder or a run; resized where their size
        follows from that of the pictures. Raises UserError as `entries`.
    notes(arrays, model)
        Lines for people on what loading does to the arrays of a state dict, or to variables.
    undecided_fields(state_dict)
        Fields in which the trained networks of a file's kind differ and that nothing in it shows.
        The config decides them, and the folder of weights keeps them.

    propose_fields(state_dict)
        Fields of the network that a state dict is of, so that it opens without a config: those that
        arrays show, with `num_classes` if it has a head that loads; the others have their defaults.
        `Choice` (models/torch_keys.py) stands for a value that nothing shows and that trained
        networks with such arrays do not agree in. For state dicts that `recognise` describes.
    configured_fields(keys, config_text)
        Fields that only the config of the program that trained a file shows; {} where it does not.
    check_config(state_dict, config_text)
        Compares a state dict that `recognise` describes with the config of the program that trained
        it, a text in that program's language, or None. Raises UserError where the file's network
        computes something else with the same arrays, or where only such a text could tell.

    FORMATS
        The programs besides the authors' whose names `to_format` writes; "mmaction2", for one.
    to_format(arrays, model, format name)
        The state dict of such a program's own network, of `arrays`, canonical key → array in
        torch's order of axes. Raises UserError, in a line, where the program has no such network.
    config_of_format(model, format name)
        The text of that program's config of the network, where the file shall hold one; or None.

In all networks the classifier is called `head` and its last axis is that of the classes. A state
dict may hold BatchNorm's `num_batches_tracked`, which no variable corresponds to.
"""

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

from aia_jax.errors import UserError
from aia_jax.models import network_of
from aia_jax.weights.report import Shape, shape_text

Variables = Mapping[str, Any]  # {"params": …, "batch_stats": …}, nested
Axes = tuple[int, ...]


class WeightsError(UserError):
    """Weights do not fit the network; the message lists every problem on a line of its own.

    Attributes:
        problems: the same lines.
    """

    def __init__(self, summary: str, problems: Iterable[str] = ()):
        self.problems = tuple(problems)
        super().__init__("\n  ".join([summary, *self.problems]))


@dataclasses.dataclass(frozen=True)
class Entry:
    """One array of the source, with its key as the file has it."""

    key: str
    value: np.ndarray


@dataclasses.dataclass(frozen=True)
class Target:
    """The variable that one key of the source fills.

    Attributes:
        variable: its path.
        shape: of the variable.
        axes: for each axis of the variable, the axis of the source's array; the array's other axes
            have size 1. Axes of the variable that lie in the same axis there are its rows, columns
            and so on: (1, 0, 0) makes [in, heads, channels] of [heads·channels, in].
    """

    variable: str
    shape: Shape
    axes: Axes

    @property
    def is_variance(self) -> bool:
        """Whether the variable is a BatchNorm's running variance."""
        return bool(re.fullmatch(r"batch_stats/(.*/)?var", self.variable))

    @property
    def source_shape(self) -> Shape:
        """The shape of the source's array."""
        shape = [1] * (1 + max(self.axes))
        for size, axis in zip(self.shape, self.axes, strict=True):
            shape[axis] *= size
        return tuple(shape)

    @property
    def _source_order(self) -> list[int]:
        """The variable's axes in the order in which they lie in the source's array."""
        return sorted(range(len(self.axes)), key=self.axes.__getitem__)

    def convert(self, entry: Entry, keep_half: bool = False) -> np.ndarray:
        """The entry's value as this variable: a new float32 array.

        Args:
            entry: key and array of the source.
            keep_half: whether float16 and bfloat16 stay as they are, which takes half the memory.

        Raises:
            WeightsError: another shape; a dtype that is no float of 16 bits or more; a number that
                is not finite in float32; a variance below zero.
        """
        value = np.asarray(entry.value)
        if value.shape != self.source_shape:
            raise WeightsError(
                f"shape: {entry.key} is {shape_text(value.shape)}, {self.variable} needs "
                f"{shape_text(self.source_shape)}"
            )
        if not jnp.issubdtype(value.dtype, jnp.floating) or value.dtype.itemsize < 2:
            raise WeightsError(
                f"dtype: {entry.key} is {value.dtype}; weights are floating-point numbers of 16, "
                "32 or 64 bits"
            )
        order = self._source_order
        value = value.reshape([self.shape[axis] for axis in order]).transpose(np.argsort(order))
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite
            dtype = value.dtype if keep_half and value.dtype.itemsize == 2 else np.float32
            value = np.array(value, dtype, order="C")
        if not np.isfinite(value).all():
            raise WeightsError(
                f"values: {entry.key} holds NaN or infinity, in float32: the file is damaged, "
                "take another"
            )
        if self.is_variance and value.min(initial=0) < 0:
            raise WeightsError(
                f"values: {entry.key} holds {float(value.min()):g}; a variance is never below zero"
            )
        return value

    def revert(self, value: np.ndarray) -> np.ndarray:
        """The opposite of `convert`: this variable's value as torch's array, of the same bits."""
        return np.ascontiguousarray(value.transpose(self._source_order)).reshape(self.source_shape)


def match_variables(variables: Variables, model: nn.Module) -> dict[str, Target]:
    """Canonical key → target, for every variable of a network.

    Args:
        variables: only the shapes of the leaves are looked at.
        model: the network of these variables.

    Raises:
        WeightsError: a variable matches no row of the network's table or several, or two variables
            match the same key.
    """
    table = [
        (re.compile(pattern), key, axes)
        for pattern, key, axes in network_of(model).torch_names.table(model)
    ]
    targets: dict[str, Target] = {}
    for variable, leaf in flatten_dict(variables, sep="/").items():
        rows = [
            (match.expand(key), axes)
            for pattern, key, axes in table
            if (match := pattern.fullmatch(variable))
        ]
        if len(rows) != 1 or rows[0][0] in targets:
            raise WeightsError(
                f"{variable} has no name of its own in PyTorch's networks; use the model that made "
                "these variables"
            )
        ((key, axes),) = rows
        targets[key] = Target(variable, leaf.shape, axes)
    return targets
