"""Weights of PyTorch networks as this project's variables, and the other way round.

`from_torch` and `to_torch` take the table of `weight_names.py` as a bijection, `load_matching` and
`load_own` take what is there and report the rest. `python -m aia_jax.weights --to-torch --workdir
DIR --out FILE` writes a run's weights for PyTorch.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from aia_jax.models import VideoNet
from aia_jax.weights.names import (
    Entry,
    Target,
    Variables,
    WeightsError,
    attention_of,
    describe_depth,
    is_backbone,
    reference_name,
    stage_sizes,
    targets_of,
    without_prefixes,
)
from aia_jax.weights.report import Dropped, Loaded, Report, Shape, shape_text

_HEAD = "params/head/"


def from_torch(
    state_dict: Mapping[str, np.ndarray], model: VideoNet, clip_shape: Shape = (8, 224, 224, 3)
) -> dict[str, Any]:
    """Turns a state dict of the reference (any of its 22 nets) or of mit-han-lab's TSM into the
    variables of the same net here.

    `module.` and `base_model.` prefixes, `.net` and `num_batches_tracked` do not matter, nor
    whether the head is called `new_fc` (the reference's name when it has dropout) or
    `base_model.fc`.

    Args:
        state_dict: key → array of any float dtype.
        model: the same net, from `create_model`.
        clip_shape: [T, H, W, 3] of a clip that the net can take; no variable depends on it.

    Returns:
        {"params": …, "batch_stats": …}, nested dicts with NumPy float32 leaves.

    Raises:
        WeightsError: unless every key is used, every variable filled and every shape the net's;
            lists all problems.
    """
    clips = jax.ShapeDtypeStruct((1, *clip_shape), jnp.float32)
    targets = targets_of(jax.eval_shape(model.init, jax.random.key(0), clips), model)
    source, problems = _canonical(state_dict)
    problems += _missing(source, targets, list(targets), lambda key: reference_name(key, model))
    problems += _unknown(
        source,
        targets,
        [key for key in source if key not in targets],
        lambda key: reference_name(key, model),
    )
    matched = {key: target for key, target in targets.items() if key in source}
    values = _convert(
        source, matched, problems, f"the state dict is not one of this net ({_describe(model)})"
    )
    return unflatten_dict(values, sep="/")


def to_torch(variables: Variables, model: VideoNet) -> dict[str, np.ndarray]:
    """Turns variables into the state dict of the same net of the reference; `from_torch` gives them
    back bit for bit.

    The reference's `load_state_dict(…, strict=True)` takes it: names with `base_model.`, the head
    `new_fc` where the net has dropout, and `num_batches_tracked` (0; torch does not use it at
    BatchNorm's usual momentum).

    Args:
        variables: {"params", "batch_stats"} of all of the net; float32 leaves.
        model: the net of these variables.

    Returns:
        Key → new float32 array in torch's order of axes, int64 for `num_batches_tracked`.

    Raises:
        WeightsError: the net is not one of the reference's, or a variable is missing or has another
            dtype.
    """
    clips = jax.ShapeDtypeStruct((1, model.num_frames, 32, 32, 3), jnp.float32)
    targets = targets_of(jax.eval_shape(model.init, jax.random.key(0), clips), model)
    leaves = {name: np.asarray(leaf) for name, leaf in flatten_dict(variables, sep="/").items()}
    needed = {target.variable: target.shape for target in targets.values()}
    problems = [
        f"missing: {name} {shape_text(shape)}"
        for name, shape in needed.items()
        if name not in leaves
    ]
    for name, leaf in leaves.items():
        if name not in needed:
            problems.append(f"not in this net: {name} {shape_text(leaf.shape)}")
        elif (leaf.shape, leaf.dtype) != (needed[name], np.float32):
            problems.append(
                f"{name} is {leaf.dtype} {shape_text(leaf.shape)}; expected float32 "
                f"{shape_text(needed[name])}"
            )
    if problems:
        raise WeightsError(
            f"the variables are not all of this net's ({_describe(model)}); problems: "
            f"{len(problems)}",
            problems,
        )
    state_dict = {}
    for key, target in targets.items():
        name = reference_name(key, model)
        state_dict[name] = target.revert(leaves[target.variable])
        if name.endswith(".running_var"):
            state_dict[name.replace("running_var", "num_batches_tracked")] = np.zeros((), np.int64)
    return state_dict


def load_matching(
    state_dict: Mapping[str, np.ndarray], variables: Variables, model: VideoNet
) -> tuple[dict[str, Any], Report]:
    """Loads what matches from a state dict with torchvision's or the reference's names into freshly
    initialised variables.

    The backbone loads whole or not at all. The head stays fresh where the class count differs, and
    so does an attention module that is not there or is another one.

    Args:
        state_dict: key → array of any float dtype; prefixes as in `from_torch`.
        variables: of `model.init`; only the shapes of its leaves are looked at.
        model: the net of these variables.

    Returns:
        The variables with the loaded leaves replaced by NumPy float32 arrays, and the report.

    Raises:
        WeightsError: a net of another depth, a key of the backbone missing, or anything but the
            head of another shape; lists all problems.
    """
    source, problems = _canonical(state_dict)
    targets = targets_of(variables, model)
    # A block with something else in it is another block: what it has beside attention may not be
    # left out without a word.
    strange = [
        key for key in source if re.match(r"layer\d+\.\d+\.(?!eft)", key) and key not in targets
    ]
    if stage_sizes(source) == stage_sizes(targets):
        problems += _unknown(source, targets, strange, str)
    return _match(source, targets, variables, problems)


def load_own(source: Variables, variables: Variables) -> tuple[dict[str, Any], Report]:
    """The same as `load_matching` for variables of this project: of a run, or of
    `convert_torch_weights.py`; some may be absent.
    """
    targets = {
        name: Target(name, leaf.shape, tuple(range(leaf.ndim)))
        for name, leaf in flatten_dict(variables, sep="/").items()
    }
    return _match(
        {name: Entry(name, leaf) for name, leaf in flatten_dict(source, sep="/").items()},
        targets,
        variables,
        [],
    )


def _canonical(state_dict: Mapping[str, np.ndarray]) -> tuple[dict[str, Entry], list[str]]:
    """Keys without prefixes → entries, and what is wrong with them."""
    source: dict[str, Entry] = {}
    problems = []
    for key, value in state_dict.items():
        if key.endswith("num_batches_tracked"):
            continue
        name = without_prefixes(key)
        if name in source:
            problems.append(f"twice: {source[name].key} and {key} mean the same variable")
        source.setdefault(name, Entry(key, value))
    return source, problems


def _match(
    source: dict[str, Entry], targets: dict[str, Target], variables: Variables, problems: list[str]
) -> tuple[dict[str, Any], Report]:
    """What `load_matching` does once both sides have the same keys."""
    why = dict.fromkeys(
        (key for key in source if key not in targets), "no such variable in this net"
    )
    for module in dict.fromkeys(filter(None, map(attention_of, targets))):
        # CinST's gates carry the names of C's and ST's: a part of another module would load without
        # a word.
        theirs = {key for key in source if attention_of(key) == module}
        if theirs != {key for key in targets if attention_of(key) == module}:
            why |= dict.fromkeys(theirs, "of another attention module")
    head = [
        key
        for key, target in targets.items()
        if target.variable.startswith(_HEAD) and key in source
    ]
    for key in head:
        found, axis = np.shape(source[key].value), targets[key].axes[-1]
        if len(found) > axis and found[axis] != targets[key].shape[-1]:
            why |= dict.fromkeys(
                head, f"{found[axis]} classes there, {targets[key].shape[-1]} here"
            )

    matched = {key: target for key, target in targets.items() if key in source and key not in why}
    backbone = [key for key, target in targets.items() if is_backbone(target.variable)]
    if not set(matched) & set(backbone):
        some = list(source)[:5]
        nearest = zip(some, _nearest(some, list(targets)), strict=True)
        problems = [
            f"{source[key].key}; nearest: {', '.join(near) or 'none'}" for key, near in nearest
        ]
        raise WeightsError(
            f"none of the {len(source)} keys names a variable of this net's backbone; the first "
            "are",
            problems,
        )
    there, here = stage_sizes(source), stage_sizes(targets)
    if there != here:
        raise WeightsError(
            f"the weights are of a {describe_depth(there)}, this net is a {describe_depth(here)}; "
            "give weights of the same depth, or set model.depth (or model.stage_sizes) to theirs"
        )
    problems += _missing(source, targets, backbone, str)
    values = _convert(source, matched, problems, "the weights do not fit this net")
    report = Report(
        loaded=tuple(
            Loaded(target.variable, source[key].key, target.shape)
            for key, target in matched.items()
        ),
        fresh={
            target.variable: target.shape for key, target in targets.items() if key not in matched
        },
        dropped=tuple(
            Dropped(source[key].key, np.shape(source[key].value), why[key])
            for key in source
            if key in why
        ),
    )
    return unflatten_dict({**flatten_dict(variables, sep="/"), **values}, sep="/"), report


def _missing(
    source: dict[str, Entry],
    targets: dict[str, Target],
    needed: list[str],
    named: Callable[[str], str],
) -> list[str]:
    """A line for each needed key that the source lacks, with the unused keys that may have been
    meant.
    """
    missing, unused = (
        [key for key in needed if key not in source],
        [key for key in source if key not in targets],
    )
    lines = []
    for key, nearest in zip(missing, _nearest(missing, unused), strict=True):
        found = ", ".join(source[k].key for k in nearest) or "none"
        lines.append(
            f"missing: {named(key)} {shape_text(targets[key].source_shape)}; nearest unused keys: "
            f"{found}"
        )
    return lines


def _unknown(
    source: dict[str, Entry],
    targets: dict[str, Target],
    unknown: list[str],
    named: Callable[[str], str],
) -> list[str]:
    """A line for each of these keys of the source, with the keys that it lacks and that may have
    been meant.
    """
    lines = []
    for key, nearest in zip(
        unknown, _nearest(unknown, [key for key in targets if key not in source]), strict=True
    ):
        wanted = ", ".join(map(named, nearest)) or "none"
        lines.append(
            f"not in this net: {source[key].key} {shape_text(np.shape(source[key].value))}; "
            f"nearest missing keys: {wanted}"
        )
    return lines


def _convert(
    source: dict[str, Entry], matched: dict[str, Target], problems: list[str], summary: str
) -> dict[str, np.ndarray]:
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
    """For each name up to three candidates, the most alike first: those that share the largest part
    of their letter triples.
    """
    triples = [{name[i : i + 3] for i in range(len(name) - 2)} for name in [*names, *candidates]]
    column = {
        triple: i
        for i, triple in enumerate(
            dict.fromkeys(triple for of_name in triples for triple in sorted(of_name))
        )
    }
    has = np.zeros((len(triples), len(column)), np.float32)
    for row, of_name in enumerate(triples):
        has[row, [column[triple] for triple in of_name]] = 1 / max(1, len(of_name)) ** 0.5
    likeness = has[: len(names)] @ has[len(names) :].T
    order = np.argsort(-likeness, axis=1, kind="stable")[:, :3]
    return [[candidates[i] for i in row if likeness[name, i] > 0] for name, row in enumerate(order)]


def _describe(model: VideoNet) -> str:
    return f"{model.temporal}, attention {model.attention}, stages {'-'.join(map(str, model.stage_sizes))}, {model.num_classes} classes"
