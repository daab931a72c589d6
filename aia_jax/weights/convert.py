"""Weights of PyTorch networks as this project's variables, and the other way round.

`from_torch` and `to_torch` convert a whole network, every key and every variable. `load_matching`
and `load_own` load what fits into fresh variables and report the rest.
"""

from collections.abc import Mapping
from types import ModuleType
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from aia_jax.models import network_of
from aia_jax.weights.names import Entry, Target, Variables, WeightsError, match_variables
from aia_jax.weights.problems import describe_first, describe_missing, describe_unknown
from aia_jax.weights.report import Dropped, Loaded, Report, Shape, shape_text

_HEAD = "params/head/"


def from_torch(
    state_dict: Mapping[str, np.ndarray], model: nn.Module, clip_shape: Shape = (8, 224, 224, 3)
) -> dict[str, Any]:
    """Turns a state dict into the variables of the same network here.

    For a ResNet the state dict is one of the reference (any of its 22 networks) or of mit-han-lab's
    TSM. The prefixes `module.` and `base_model.`, `.net` and `num_batches_tracked` do not matter
    for the names. But where `.net` shows that the file's network shifts other blocks than `model`,
    it is not the same network. The head may be called `new_fc` (the reference's name when it has
    dropout) or `base_model.fc`.

    Args:
        state_dict: key → array of any float dtype of 16 bits or more.
        model: the same network, from `create_model`.
        clip_shape: [T, H, W, 3] of a clip that the network can take.

    Returns:
        {"params": …, "batch_stats": …}, nested dicts with NumPy float32 leaves.

    Raises:
        WeightsError: unless every key is used, every variable filled and every shape the network's;
            where keys show another network of these shapes; lists all problems.
    """
    targets = match_variables(_abstract_variables(model, clip_shape), model)
    names = network_of(model).torch_names
    source, problems = _read_entries(state_dict, model)
    unknown = [key for key in source if key not in targets]

    def rename(key: str) -> str:
        return names.reference_key(key, model)

    problems += describe_missing(list(targets), source, targets, rename)
    problems += describe_unknown(unknown, source, targets, rename)
    matched = {key: target for key, target in targets.items() if key in source}
    values = _convert(
        source, matched, problems, f"the state dict is not one of this net ({_describe(model)})"
    )
    return unflatten_dict(values, sep="/")


def to_torch(
    variables: Variables, model: nn.Module, clip_shape: Shape = (8, 224, 224, 3)
) -> dict[str, np.ndarray]:
    """Turns variables into the state dict of the same network of the reference.

    `from_torch` gives them back bit for bit. The reference's `load_state_dict(…, strict=True)`
    takes the result. A ResNet's keys begin with `base_model.`, but the head is `new_fc` where the
    network has dropout. `num_batches_tracked` is 0; torch does not use it at BatchNorm's usual
    momentum.

    Args:
        variables: {"params", "batch_stats"} of the whole network; float32 leaves.
        model: the network of these variables.
        clip_shape: [T, H, W, 3] of a clip that the network can take.

    Returns:
        Key → new float32 array in torch's order of axes, int64 for `num_batches_tracked`.

    Raises:
        WeightsError: the network is not one of the reference's, or a variable is missing or has
            another shape or dtype.
    """
    targets = match_variables(_abstract_variables(model, clip_shape), model)
    names = network_of(model).torch_names
    leaves = {name: np.asarray(leaf) for name, leaf in flatten_dict(variables, sep="/").items()}
    shapes = {target.variable: target.shape for target in targets.values()}
    problems = [
        f"missing: {name} {shape_text(shape)}"
        for name, shape in shapes.items()
        if name not in leaves
    ]
    for name, leaf in leaves.items():
        if name not in shapes:
            problems.append(f"not in this net: {name} {shape_text(leaf.shape)}")
        elif (leaf.shape, leaf.dtype) != (shapes[name], np.float32):
            problems.append(
                f"{name} is {leaf.dtype} {shape_text(leaf.shape)}; expected float32 "
                f"{shape_text(shapes[name])}"
            )
    if problems:
        raise WeightsError(
            f"the variables are not all of this net's ({_describe(model)}); problems: "
            f"{len(problems)}",
            problems,
        )
    state_dict = {}
    for canonical, target in targets.items():
        key = names.reference_key(canonical, model)
        state_dict[key] = target.revert(leaves[target.variable])
        if key.endswith(".running_var"):
            state_dict[key.replace("running_var", "num_batches_tracked")] = np.zeros((), np.int64)
    return state_dict


def load_matching(
    state_dict: Mapping[str, np.ndarray], variables: Variables, model: nn.Module
) -> tuple[dict[str, Any], Report]:
    """Loads what matches from a state dict into freshly initialised variables.

    The backbone loads whole or not at all. The head stays fresh where the number of classes
    differs. An attention module stays fresh where the source has none or another one.

    Args:
        state_dict: key → array of any float dtype of 16 bits or more; names as in `from_torch`, or
            torchvision's.
        variables: of `model.init`; only the shapes of its leaves are looked at.
        model: the network of these variables.

    Returns:
        The variables with the loaded leaves replaced by NumPy float32 arrays, and the report.

    Raises:
        WeightsError: a network of another size or, by its keys, another one of this size; a key of
            the backbone that is missing or unknown; or another shape anywhere but in the head;
            lists all problems.
    """
    source, problems = _read_entries(state_dict, model)
    targets = match_variables(variables, model)
    return _load(source, targets, variables, network_of(model).torch_names, problems)


def load_own(
    source: Variables, variables: Variables, model: nn.Module
) -> tuple[dict[str, Any], Report]:
    """Does what `load_matching` does, with variables of this project; some may be absent.

    Args:
        source: of a run or of `convert_torch_weights.py`.
        variables: as in `load_matching`.
        model: as in `load_matching`.
    """
    targets = {
        name: Target(name, leaf.shape, tuple(range(leaf.ndim)))
        for name, leaf in flatten_dict(variables, sep="/").items()
    }
    entries = {name: Entry(name, leaf) for name, leaf in flatten_dict(source, sep="/").items()}
    return _load(entries, targets, variables, network_of(model).torch_names, [])


def _abstract_variables(model: nn.Module, clip_shape: Shape) -> Any:
    """The shapes of a network's variables; they do not depend on the clip's frames or size."""
    clips = jax.ShapeDtypeStruct((1, *clip_shape), jnp.float32)
    return jax.eval_shape(model.init, jax.random.key(0), clips)


def _read_entries(
    state_dict: Mapping[str, np.ndarray], model: nn.Module
) -> tuple[dict[str, Entry], list[str]]:
    """Canonical key → entry, and problems: keys of another network, and keys of one meaning."""
    source: dict[str, Entry] = {}
    names = network_of(model).torch_names
    contradiction = names.contradiction(state_dict, model)
    problems = [contradiction] if contradiction else []
    for canonical, key, value in names.entries(state_dict, model):
        if canonical in source:
            problems.append(f"twice: {source[canonical].key} and {key} mean the same variable")
        source.setdefault(canonical, Entry(key, value))
    return source, problems


def _load(
    source: dict[str, Entry],
    targets: dict[str, Target],
    variables: Variables,
    names: ModuleType,
    problems: list[str],
) -> tuple[dict[str, Any], Report]:
    """Loads entries into variables, for `load_matching` and `load_own`.

    Args:
        source: key → entry.
        targets: key → target, with the same kind of keys as `source`.
        variables: freshly initialised.
        names: the network's `torch_names`.
        problems: found before.
    """
    unused = {key: "no such variable in this net" for key in source if key not in targets}
    unused |= _other_modules(source, targets, names)
    unused |= _other_classes(source, targets)

    matched = {
        key: target for key, target in targets.items() if key in source and key not in unused
    }
    backbone = [key for key in targets if names.is_backbone(key)]
    if not set(matched) & set(backbone):
        raise WeightsError(
            f"none of the {len(source)} keys names a variable of this net's backbone; the first "
            "are",
            describe_first(source, targets),
        )
    source_size, size = names.describe_size(source), names.describe_size(targets)
    if source_size != size:
        raise WeightsError(
            f"the weights are of a {source_size or 'network of no known size'}, this net is a "
            f"{size}; give weights of the same size, or set {names.SIZE_FIELDS} to theirs"
        )
    unknown = [key for key in source if names.is_backbone(key) and key not in targets]
    problems = [
        *problems,
        *describe_unknown(unknown, source, targets),
        *describe_missing(backbone, source, targets),
    ]
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
            Dropped(source[key].key, np.shape(source[key].value), unused[key])
            for key in source
            if key in unused
        ),
        notes=tuple(
            f"{source[key].key} holds only zeros; a network's running variances seldom do"
            for key, target in matched.items()
            if target.is_variance and not values[target.variable].any()
        ),
    )
    return unflatten_dict({**flatten_dict(variables, sep="/"), **values}, sep="/"), report


def _other_modules(
    source: dict[str, Entry], targets: dict[str, Target], names: ModuleType
) -> dict[str, str]:
    """Key → reason, for the keys of attention modules that are not the ones of this network.

    CinST's gates have the names of C's and of ST's. So a module is the same only if all of its keys
    are: otherwise a part of another module would load, and nobody would notice.
    """
    unused = {}
    for module in dict.fromkeys(filter(None, map(names.optional_module, targets))):
        source_keys = {key for key in source if names.optional_module(key) == module}
        if source_keys != {key for key in targets if names.optional_module(key) == module}:
            unused |= dict.fromkeys(source_keys, "of another attention module")
    return unused


def _other_classes(source: dict[str, Entry], targets: dict[str, Target]) -> dict[str, str]:
    """Key → reason, for the keys of a head with another number of classes."""
    unused = {}
    head = [
        key
        for key, target in targets.items()
        if target.variable.startswith(_HEAD) and key in source
    ]
    for key in head:
        shape, axis = np.shape(source[key].value), targets[key].axes[-1]
        classes = targets[key].shape[-1]
        if len(shape) > axis and shape[axis] != classes:
            unused |= dict.fromkeys(head, f"{shape[axis]} classes there, {classes} here")
    return unused


def _convert(
    source: dict[str, Entry], matched: dict[str, Target], problems: list[str], summary: str
) -> dict[str, np.ndarray]:
    """Variable → value, for all matched keys; an error with all problems if there are any."""
    values = {}
    for key, target in matched.items():
        try:
            values[target.variable] = target.convert(source[key])
        except WeightsError as error:
            problems.append(str(error))
    if problems:
        raise WeightsError(f"{summary}; problems: {len(problems)}", problems)
    return values


def _describe(model: nn.Module) -> str:
    return f"{model.describe()}, {model.num_classes} classes"
