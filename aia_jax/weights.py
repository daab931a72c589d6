"""Weights of the reference's PyTorch networks, and of ResNets with torchvision's names, as this project's variables.

One table pairs every variable with one key of a state dict and says how the axes lie. `from_torch` uses it as a bijection, `load_matching`
takes what is there and reports the rest. A variable is named by its path: `params/stem/conv/kernel`.
"""

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from aia_jax.errors import UserError
from aia_jax.models import VideoNet
from aia_jax.models.attention import Combination, Module, parse
from aia_jax.weights_report import Dropped, Loaded, Report, Shape, shape_text

Variables = Mapping[str, Any]  # {"params": …, "batch_stats": …}, nested
Axes = tuple[int, ...]

# For each of our axes the axis of torch's array; an axis of torch's that is not named has size one.
_VECTOR = (0,)
_DENSE = (1, 0)  # out, in → in, out
_CONV2D = (2, 3, 1, 0)  # out, in, h, w → h, w, in, out
_ATTENTION = (2, 3, 4, 1)  # 1, pooled, d, h, w → d, h, w, pooled

_BLOCK, _TORCH_BLOCK = r"stage(\d+)_block(\d+)", r"layer\1.\2"
_HEAD = "params/head/"

# In a sum the order does not matter, so only the reference's state dicts show that it counts this one's modules the other way round.
_COUNTED_OTHERWISE = {"CinST+STinC": ("STinC", "CinST")}


class WeightsError(UserError):
    """Weights do not fit the net. The message lists every problem on a line of its own, as `problems` does."""

    def __init__(self, summary: str, problems: Iterable[str] = ()):
        self.problems = tuple(problems)
        super().__init__("\n  ".join([summary, *self.problems]))


def from_torch(state_dict: Mapping[str, np.ndarray], model: VideoNet, clip_shape: Shape = (8, 224, 224, 3)) -> dict[str, Any]:
    """Turns a state dict of the reference (any of its 22 nets) or of mit-han-lab's TSM into the variables of the same net here.

    `module.` and `base_model.` prefixes, `.net` and `num_batches_tracked` do not matter, nor whether the head is called `new_fc`
    (the reference's name when it has dropout) or `base_model.fc`.

    Args:
        state_dict: key → array of any float dtype.
        model: the same net, from `create_model`.
        clip_shape: [T, H, W, 3] of a clip that the net can take; no variable depends on it.

    Returns:
        {"params": …, "batch_stats": …}, nested dicts with NumPy float32 leaves.

    Raises:
        WeightsError: unless every key is used, every variable filled and every shape the net's; lists all problems.
    """
    clips = jax.ShapeDtypeStruct((1, *clip_shape), jnp.float32)
    targets = _targets(jax.eval_shape(model.init, jax.random.key(0), clips), model)
    source, problems = _canonical(state_dict)
    unused = [key for key in source if key not in targets]
    missing = [key for key in targets if key not in source]
    for key, nearest in zip(missing, _nearest(missing, unused), strict=True):
        found = ", ".join(source[k].key for k in nearest) or "none"
        problems.append(f"missing: {_reference_name(key, model)} {shape_text(targets[key].source_shape)}; nearest unused keys: {found}")
    for key, nearest in zip(unused, _nearest(unused, missing), strict=True):
        wanted = ", ".join(_reference_name(k, model) for k in nearest) or "none"
        problems.append(f"not in this net: {source[key].key} {shape_text(np.shape(source[key].value))}; nearest missing keys: {wanted}")
    matched = {key: target for key, target in targets.items() if key in source}
    values = _convert(source, matched, problems, f"the state dict is not one of this net ({_describe(model)})")
    return unflatten_dict(values, sep="/")


def load_matching(state_dict: Mapping[str, np.ndarray], variables: Variables, model: VideoNet) -> tuple[dict[str, Any], Report]:
    """Loads what matches from a state dict with torchvision's or the reference's names into freshly initialised variables.

    The head stays fresh where the class count differs; an attention module is loaded whole or not at all.

    Args:
        state_dict: key → array of any float dtype; prefixes as in `from_torch`.
        variables: of `model.init`; only the shapes of its leaves are looked at.
        model: the net of these variables.

    Returns:
        The variables with the loaded leaves replaced by NumPy float32 arrays, and the report.

    Raises:
        WeightsError: if nothing matches but the head, or anything but the head has another shape; lists all problems.
    """
    source, problems = _canonical(state_dict)
    return _match(source, _targets(variables, model), variables, problems)


def load_own(source: Variables, variables: Variables) -> tuple[dict[str, Any], Report]:
    """The same as `load_matching` for variables of this project, such as those `convert_torch_weights.py` writes; some may be absent."""
    targets = {name: _Target(name, leaf.shape, tuple(range(leaf.ndim))) for name, leaf in flatten_dict(variables, sep="/").items()}
    return _match({name: _Entry(name, leaf) for name, leaf in flatten_dict(source, sep="/").items()}, targets, variables, [])


@dataclasses.dataclass(frozen=True)
class _Entry:
    """One array of the source, with its key as the file has it."""

    key: str
    value: np.ndarray


@dataclasses.dataclass(frozen=True)
class _Target:
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

    def convert(self, entry: _Entry) -> np.ndarray:
        """The entry's value as this variable: a new float32 array."""
        value = np.asarray(entry.value)
        if value.shape != self.source_shape:
            raise WeightsError(f"shape: {entry.key} is {shape_text(value.shape)}, {self.variable} needs {shape_text(self.source_shape)}")
        if not jnp.issubdtype(value.dtype, jnp.floating):
            raise WeightsError(f"dtype: {entry.key} is {value.dtype}; weights are floating-point numbers")
        of_size_one = [axis for axis in range(value.ndim) if axis not in self.axes]
        value = np.array(value.transpose(*self.axes, *of_size_one).reshape(self.shape), np.float32, order="C")
        if not np.isfinite(value).all():
            raise WeightsError(f"values: {entry.key} holds NaN or infinity")
        return value


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
        rows += [(f"params/{ours}/conv/kernel", f"{torchs}_conv.weight", _ATTENTION), *_batch_norm(f"{ours}/bn", f"{torchs}_bn")]
    return rows


def _batch_norm(ours: str, torchs: str) -> list[tuple[str, str, Axes]]:
    return [
        (f"params/{ours}/scale", f"{torchs}.weight", _VECTOR),
        (f"params/{ours}/bias", f"{torchs}.bias", _VECTOR),
        (f"batch_stats/{ours}/mean", f"{torchs}.running_mean", _VECTOR),
        (f"batch_stats/{ours}/var", f"{torchs}.running_var", _VECTOR),
    ]


def _attention_names(expression: str) -> dict[str, str]:
    """Our name of each attention module → the reference's: `eft` for a single one, else `eft1` and `eft2`."""

    def modules(part: Module | Combination | None) -> list[str]:
        if isinstance(part, Combination):
            return [name for inner in part.parts for name in modules(inner)]
        return [] if part is None else [part.name]

    names = _COUNTED_OTHERWISE.get(expression.replace(" ", "")) or modules(parse(expression))
    return {names[0]: "eft"} if len(names) == 1 else {name: f"eft{count}" for count, name in enumerate(names, 1)}


def _targets(variables: Variables, model: VideoNet) -> dict[str, _Target]:
    """Key without prefixes → target, for every variable; each is in the table once."""
    table = [(re.compile(pattern), key, axes) for pattern, key, axes in _table(model.attention)]
    targets = {}
    for variable, leaf in flatten_dict(variables, sep="/").items():
        rows = [(match.expand(key), axes) for pattern, key, axes in table if (match := pattern.fullmatch(variable))]
        if len(rows) != 1 or rows[0][0] in targets:
            raise WeightsError(f"{variable} has no name of its own in PyTorch's networks; use the model that made these variables")
        ((key, axes),) = rows
        targets[key] = _Target(variable, leaf.shape, axes)
    return targets


def _canonical(state_dict: Mapping[str, np.ndarray]) -> tuple[dict[str, _Entry], list[str]]:
    """Keys without prefixes → entries, and what is wrong with them."""
    source: dict[str, _Entry] = {}
    problems = []
    for key, value in state_dict.items():
        if key.endswith("num_batches_tracked"):
            continue
        name = re.sub(r"^(module\.)*(base_model\.)?(new_fc\.)?", lambda m: "fc." if m[3] else "", key).replace(".net.", ".")
        if name in source:
            problems.append(f"twice: {source[name].key} and {key} mean the same variable")
        source.setdefault(name, _Entry(key, value))
    return source, problems


def _reference_name(key: str, model: VideoNet) -> str:
    """The reference's name of a key without prefixes."""
    return key.replace("fc.", "new_fc.") if key.startswith("fc.") and model.dropout > 0 else f"base_model.{key}"


def _match(
    source: dict[str, _Entry], targets: dict[str, _Target], variables: Variables, problems: list[str]
) -> tuple[dict[str, Any], Report]:
    """What `load_matching` does once both sides have the same keys."""
    why = dict.fromkeys((key for key in source if key not in targets), "no such variable in this net")
    for module in dict.fromkeys(filter(None, map(_module, targets))):
        # CinST's gates carry the names of C's and ST's: a part of another module would load without a word.
        theirs = {key for key in source if _module(key) == module}
        if theirs != {key for key in targets if _module(key) == module}:
            why |= dict.fromkeys(theirs, "of another attention module")
    head = [key for key, target in targets.items() if target.variable.startswith(_HEAD) and key in source]
    for key in head:
        found, axis = np.shape(source[key].value), targets[key].axes[-1]
        if len(found) > axis and found[axis] != targets[key].shape[-1]:
            why |= dict.fromkeys(head, f"{found[axis]} classes there, {targets[key].shape[-1]} here")

    matched = {key: target for key, target in targets.items() if key in source and key not in why}
    if not set(matched) - set(head):
        some = list(source)[:5]
        nearest = zip(some, _nearest(some, list(targets)), strict=True)
        problems = [f"{source[key].key}; nearest: {', '.join(near) or 'none'}" for key, near in nearest]
        raise WeightsError(f"none of the {len(source)} keys names a variable of this net's backbone; the first are", problems)
    values = _convert(source, matched, problems, "the weights do not fit this net")
    report = Report(
        loaded=tuple(Loaded(target.variable, source[key].key, target.shape) for key, target in matched.items()),
        fresh={target.variable: target.shape for key, target in targets.items() if key not in matched},
        dropped=tuple(Dropped(source[key].key, np.shape(source[key].value), why[key]) for key in source if key in why),
    )
    return unflatten_dict({**flatten_dict(variables, sep="/"), **values}, sep="/"), report


def _module(key: str) -> str | None:
    """The attention module of one block that a key, torch's or ours, belongs to."""
    match = re.search(r"layer\d+\.\d+\.eft\d*(?=\.)|stage\d+_block\d+/attention/\w+(?=/)", key)
    return match and match[0]


def _convert(source: dict[str, _Entry], matched: dict[str, _Target], problems: list[str], summary: str) -> dict[str, np.ndarray]:
    """Variable → value for all matched keys, or an error with all problems."""
    values = {}
    for key, target in matched.items():
        try:
            values[target.variable] = target.convert(source[key])
        except WeightsError as error:
            problems.append(str(error))
    if problems:
        raise WeightsError(f"{summary}; problems: {len(problems)}", problems)
    return values


def _nearest(names: list[str], candidates: list[str]) -> list[list[str]]:
    """For each name up to three candidates, the most alike first: those that share the largest part of their letter triples."""
    triples = [{name[i : i + 3] for i in range(len(name) - 2)} for name in [*names, *candidates]]
    column = {triple: i for i, triple in enumerate(dict.fromkeys(triple for of_name in triples for triple in sorted(of_name)))}
    has = np.zeros((len(triples), len(column)), np.float32)
    for row, of_name in enumerate(triples):
        has[row, [column[triple] for triple in of_name]] = 1 / max(1, len(of_name)) ** 0.5
    likeness = has[: len(names)] @ has[len(names) :].T
    order = np.argsort(-likeness, axis=1, kind="stable")[:, :3]
    return [[candidates[i] for i in row if likeness[name, i] > 0] for name, row in enumerate(order)]


def _describe(model: VideoNet) -> str:
    return f"{model.temporal}, attention {model.attention}, stages {'-'.join(map(str, model.stage_sizes))}, {model.num_classes} classes"
