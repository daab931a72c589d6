"""One table that pairs every variable with one key of a PyTorch state dict and says how the axes
lie.

A variable is named by its path, `params/stem/conv/kernel`; a key by what it is called without
prefixes, `conv1.weight`.
"""

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

from aia_jax.errors import UserError
from aia_jax.models import VideoNet
from aia_jax.models.attention.aia import Combination, Module, parse
from aia_jax.weights.report import Shape, shape_text

Variables = Mapping[str, Any]  # {"params": …, "batch_stats": …}, nested
Axes = tuple[int, ...]

# For each of our axes the axis of torch's array; an axis of torch's that is not named has size one.
_VECTOR = (0,)
_DENSE = (1, 0)  # out, in → in, out
_CONV2D = (2, 3, 1, 0)  # out, in, h, w → h, w, in, out
_ATTENTION = (2, 3, 4, 1)  # 1, pooled, d, h, w → d, h, w, pooled

_BLOCK, _TORCH_BLOCK = r"stage(\d+)_block(\d+)", r"layer\1.\2"

# In a sum the order does not matter, so only the reference's state dicts show that it counts this
# one's modules the other way round.
_COUNTED_OTHERWISE = {"CinST+STinC": ("STinC", "CinST")}

_DEPTHS = {(3, 4, 6, 3): 50, (3, 4, 23, 3): 101, (3, 8, 36, 3): 152}


class WeightsError(UserError):
    """Weights do not fit the net. The message lists every problem on a line of its own, as
    `problems` does.
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
    """Where one key of the source goes."""

    variable: str
    shape: Shape
    axes: Axes

    @property
    def source_shape(self) -> Shape:
        shape = [1] * (1 + max(self.axes))
        for size, axis in zip(self.shape, self.axes, strict=True):
            shape[axis] = size
        return tuple(shape)

    def convert(self, entry: Entry) -> np.ndarray:
        """The entry's value as this variable: a new float32 array."""
        value = np.asarray(entry.value)
        if value.shape != self.source_shape:
            raise WeightsError(
                f"shape: {entry.key} is {shape_text(value.shape)}, {self.variable} needs "
                f"{shape_text(self.source_shape)}"
            )
        if not jnp.issubdtype(value.dtype, jnp.floating):
            raise WeightsError(
                f"dtype: {entry.key} is {value.dtype}; weights are floating-point numbers"
            )
        of_size_one = [axis for axis in range(value.ndim) if axis not in self.axes]
        value = np.array(
            value.transpose(*self.axes, *of_size_one).reshape(self.shape), np.float32, order="C"
        )
        if not np.isfinite(value).all():
            raise WeightsError(f"values: {entry.key} holds NaN or infinity")
        return value

    def revert(self, value: np.ndarray) -> np.ndarray:
        """The opposite of `convert`: this variable's value as torch's array, of the same bits."""
        by_torchs_axis = sorted(range(len(self.axes)), key=self.axes.__getitem__)
        return np.ascontiguousarray(value.transpose(by_torchs_axis)).reshape(self.source_shape)


def targets_of(variables: Variables, model: VideoNet) -> dict[str, Target]:
    """Key without prefixes → target, for every variable; each is in the table once."""
    table = [(re.compile(pattern), key, axes) for pattern, key, axes in _table(model.attention)]
    targets = {}
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


def without_prefixes(key: str) -> str:
    """A key of any supported source as the table has it: `module.new_fc.weight` → `fc.weight`."""
    return re.sub(
        r"^(module\.)*(base_model\.)?(new_fc\.)?", lambda m: "fc." if m[3] else "", key
    ).replace(".net.", ".")


def reference_name(key: str, model: VideoNet) -> str:
    """The reference's name of a key without prefixes; its head has another when the net has
    dropout.
    """
    return (
        key.replace("fc.", "new_fc.")
        if key.startswith("fc.") and model.dropout > 0
        else f"base_model.{key}"
    )


def is_backbone(variable: str) -> bool:
    """Whether a variable is one of the plain ResNet's without its head: what every start from
    weights must fill.
    """
    return (
        re.match(
            rf"(params|batch_stats)/(stem|{_BLOCK}/(conv\d|bn\d|shortcut_conv|shortcut_bn))/",
            variable,
        )
        is not None
    )


def attention_of(name: str) -> str | None:
    """The attention module of one block that a key or a variable belongs to."""
    match = re.search(r"layer\d+\.\d+\.eft\d*(?=\.)|stage\d+_block\d+/attention/\w+(?=/)", name)
    return match and match[0]


def stage_sizes(names: Iterable[str]) -> tuple[int, ...]:
    """Blocks of each stage, as the names of keys or of variables tell."""
    blocks = {
        (int(m[1]), int(m[2]))
        for name in names
        if (m := re.search(r"(?:layer|stage)(\d+)(?:\.|_block)(\d+)(?=[./])", name))
    }
    return tuple(
        1 + max(block for stage, block in blocks if stage == this)
        for this in sorted({stage for stage, _ in blocks})
    )


def describe_depth(sizes: tuple[int, ...]) -> str:
    """ "ResNet-50 (3-4-6-3 blocks)" for (3, 4, 6, 3)."""
    return f"ResNet{f'-{_DEPTHS[sizes]}' if sizes in _DEPTHS else ''} ({'-'.join(map(str, sizes))} blocks)"


def _table(attention: str) -> list[tuple[str, str, Axes]]:
    """(pattern of variables, their key without prefixes, axes) for a net with this attention."""
    rows = [
        ("params/stem/conv/kernel", "conv1.weight", _CONV2D),
        *_batch_norm("stem/bn", "bn1"),
        (rf"params/{_BLOCK}/conv(\d)/kernel", rf"{_TORCH_BLOCK}.conv\3.weight", _CONV2D),
        *_batch_norm(rf"{_BLOCK}/bn(\d)", rf"{_TORCH_BLOCK}.bn\3"),
        (f"params/{_BLOCK}/shortcut_conv/kernel", f"{_TORCH_BLOCK}.downsample.0.weight", _CONV2D),
        *_batch_norm(f"{_BLOCK}/shortcut_bn", f"{_TORCH_BLOCK}.downsample.1"),
        ("params/head/kernel", "fc.weight", _DENSE),
        ("params/head/bias", "fc.bias", _VECTOR),
    ]
    for module, eft in _attention_names(attention).items():
        ours, torchs = f"{_BLOCK}/attention/{module}/([CTHW])", rf"{_TORCH_BLOCK}.{eft}.\3"
        rows += [
            (f"params/{ours}/conv/kernel", f"{torchs}_conv.weight", _ATTENTION),
            *_batch_norm(f"{ours}/bn", f"{torchs}_bn"),
        ]
    return rows


def _batch_norm(ours: str, torchs: str) -> list[tuple[str, str, Axes]]:
    return [
        (f"params/{ours}/scale", f"{torchs}.weight", _VECTOR),
        (f"params/{ours}/bias", f"{torchs}.bias", _VECTOR),
        (f"batch_stats/{ours}/mean", f"{torchs}.running_mean", _VECTOR),
        (f"batch_stats/{ours}/var", f"{torchs}.running_var", _VECTOR),
    ]


def _attention_names(expression: str) -> dict[str, str]:
    """Our name of each attention module → the reference's: `eft` for a single one, else `eft1` and
    `eft2`.
    """

    def modules(part: Module | Combination | None) -> list[str]:
        if isinstance(part, Combination):
            return [name for inner in part.parts for name in modules(inner)]
        return [] if part is None else [part.name]

    names = _COUNTED_OTHERWISE.get(expression.replace(" ", "")) or modules(parse(expression))
    return (
        {names[0]: "eft"}
        if len(names) == 1
        else {name: f"eft{count}" for count, name in enumerate(names, 1)}
    )
