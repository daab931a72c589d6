"""Weights of PyTorch networks as this project's variables.

`from_torch` converts a whole network, every key and every variable. `load_matching`
and `load_own` load what fits into fresh variables and report the rest.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from aia_jax import models
from aia_jax.errors import UserError
from aia_jax.models import network_of
from aia_jax.weights.names import Entry, Target, Variables, WeightsError, match_variables
from aia_jax.weights.problems import describe_first, describe_missing, describe_unknown
from aia_jax.weights.report import Dropped, Loaded, Report, Shape, shape_text
from aia_jax.weights.selection import find_other_classes, find_other_modules, join_entries


def from_torch(
    state_dict: Mapping[str, np.ndarray], model: nn.Module, clip_shape: Shape | None = None
) -> dict[str, Any]:
    """Turns a state dict into the variables of the same network here.

    For a ResNet the state dict is one of the reference (any of its 22 networks) or of mit-han-lab's
    TSM. The prefixes `module.` and `base_model.`, `.net` and `num_batches_tracked` do not matter
    for the names. But where `.net` shows that the file's network shifts other blocks than `model`,
    it is not the same network. The head may be called `new_fc` (the reference's name when it has
    dropout) or `base_model.fc`. For a ViT it is of any source in models/vit/torch_sources.py.

    Args:
        state_dict: key → array of any float dtype of 16 bits or more.
        model: the same network, from `create_model`.
        clip_shape: [T, H, W, 3] of a clip that the network can take; None: its own
            (`aia_jax.models.clip_shape`).

    Returns:
        {"params": …, "batch_stats": …}, nested dicts with NumPy float32 leaves.

    Raises:
        WeightsError: unless every key is used, every variable filled and every shape the network's;
            where keys show another network of these shapes; lists all problems.
    """
    targets = match_variables(abstract_variables(model, clip_shape), model)
    names = network_of(model).torch_names
    source, problems, _ = _read_entries(state_dict, model, {})
    unknown = [key for key in source if key not in targets]

    def rename(key: str) -> str:
        return names.reference_key(key, model)

    problems += describe_missing(list(targets), source, targets, rename)
    problems += describe_unknown(unknown, source, targets, rename)
    matched = {key: target for key, target in targets.items() if key in source}
    values = _convert(
        source, matched, problems, f"the state dict is not one of this net ({describe_net(model)})"
    )
    return unflatten_dict(values, sep="/")


def load_matching(
    state_dict: Mapping[str, np.ndarray],
    variables: Variables,
    model: nn.Module,
    *,
    consume: bool = False,
    keep_half: bool = False,
) -> tuple[dict[str, Any], Report]:
    """Loads what matches from a state dict into freshly initialised variables.

    The backbone loads whole or not at all. The head stays fresh where the number of classes
    differs. An attention module stays fresh where the source has none or another one. Of two keys
    that mean the same variable one is taken where both have the same numbers, or where just one is
    a head of this network's classes.

    Args:
        state_dict: key → array of any float dtype of 16 bits or more; names as in `from_torch`, or
            torchvision's.
        variables: of `model.init`; only the shapes of its leaves are looked at.
        model: the network of these variables.
        consume: whether to empty `state_dict`, which must be a dict: an array goes when its
            variable is there, so that memory does not hold all of both.
        keep_half: whether float16 and bfloat16 stay as they are, which takes half the memory.

    Returns:
        The variables with the loaded leaves replaced by NumPy float32 arrays (see
        `keep_half`), and the report.

    Raises:
        WeightsError: a network of another size or, by its keys, another one of this size; a key of
            the backbone that is missing or unknown; or another shape anywhere but in the head;
            lists all problems.
    """
    targets = match_variables(variables, model)
    source, problems, notes = _read_entries(state_dict, model, targets)
    notes = [*_notes(state_dict, model), *notes]
    if consume:
        state_dict.clear()
    return _load(source, targets, variables, model, problems, notes, consume, keep_half)


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
    leaves = flatten_dict(source, sep="/")
    notes = _notes(leaves, model)
    if fit_variables := getattr(network_of(model).torch_names, "fit_variables", None):
        with _other_network(model):
            leaves = fit_variables(leaves, model)
    entries = {name: Entry(name, leaf) for name, leaf in leaves.items()}
    return _load(entries, targets, variables, model, [], notes)


def _notes(arrays: Mapping[str, Any], model: nn.Module) -> Sequence[str]:
    """What the network's names say of what loading does to these arrays."""
    notes = getattr(network_of(model).torch_names, "notes", None)
    with _other_network(model):
        return notes(arrays, model) if notes else ()


@contextlib.contextmanager
def _other_network(model: nn.Module) -> Iterator[None]:
    """Turns the error that arrays are of another network into one with a line for each problem."""
    try:
        yield
    except UserError as error:
        problems = str(error).splitlines()
        summary = f"the weights do not fit this net ({describe_net(model)})"
        raise _problems_error(summary, problems) from error


def abstract_variables(model: nn.Module, clip_shape: Shape | None) -> Any:
    """The shapes of a network's variables, which do not depend on the number of frames."""
    shape = clip_shape or models.clip_shape(model)
    clips = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    return jax.eval_shape(model.init, jax.random.key(0), clips)


def _read_entries(
    state_dict: Mapping[str, np.ndarray], model: nn.Module, targets: Mapping[str, Target]
) -> tuple[dict[str, Entry], list[str], list[str]]:
    """Canonical key → entry; problems: keys of another network or of one meaning; and notes.

    Args:
        state_dict: see `load_matching`.
        model: see `load_matching`.
        targets: of the network; {} makes a problem of all keys that mean the same variable.
    """
    names = network_of(model).torch_names
    contradiction = names.contradiction(state_dict, model)
    with _other_network(model):
        entries = names.entries(state_dict, model)
    source, problems, notes = join_entries(entries, targets)
    return source, [contradiction, *problems] if contradiction else problems, notes


def _load(
    source: dict[str, Entry],
    targets: dict[str, Target],
    variables: Variables,
    model: nn.Module,
    problems: list[str],
    notes: Sequence[str],
    consume: bool = False,
    keep_half: bool = False,
) -> tuple[dict[str, Any], Report]:
    """Loads entries into variables, for `load_matching` and `load_own`.

    Args:
        source: key → entry.
        targets: key → target, with the same kind of keys as `source`.
        variables: freshly initialised.
        model: the network of these variables.
        problems: found before.
        notes: for the report.
        consume, keep_half: see `load_matching`.
    """
    names = network_of(model).torch_names
    unused = {key: "no such variable in this net" for key in source if key not in targets}
    unused |= find_other_modules(source, targets, names)
    unused |= find_other_classes(source, targets)

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
    _check_widths({key: matched[key] for key in backbone if key in matched}, source)
    unknown = [key for key in source if names.is_backbone(key) and key not in targets]
    problems = [
        *problems,
        *describe_unknown(unknown, source, targets),
        *describe_missing(backbone, source, targets),
    ]
    summary = "the weights do not fit this net"
    values = _convert(source, matched, problems, summary, consume, keep_half)
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
        notes=(
            *notes,
            *(
                f"{source[key].key} holds only zeros; a network's running variances seldom do"
                for key, target in matched.items()
                if target.is_variance and not values[target.variable].any()
            ),
        ),
    )
    return unflatten_dict({**flatten_dict(variables, sep="/"), **values}, sep="/"), report


def _check_widths(backbone: Mapping[str, Target], source: Mapping[str, Entry]) -> None:
    """Refuses weights most of whose arrays have other shapes than the backbone: one line for all.

    Raises:
        WeightsError: the network has another number of channels.
    """
    others = [
        (source[key], target)
        for key, target in backbone.items()
        if np.shape(source[key].value) != target.source_shape
    ]
    if 2 * len(others) > len(backbone):
        entry, target = others[0]
        raise WeightsError(
            f"the weights do not fit this net: {len(others)} of {len(backbone)} arrays have other "
            f"widths ({entry.key}: {shape_text(np.shape(entry.value))}, here "
            f"{shape_text(target.source_shape)}); set model.width to theirs, or give weights of "
            "this one"
        )


def _convert(
    source: dict[str, Entry],
    matched: dict[str, Target],
    problems: list[str],
    summary: str,
    consume: bool = False,
    keep_half: bool = False,
) -> dict[str, np.ndarray]:
    """Variable → value, for all matched keys; an error with all problems if there are any."""
    values = {}
    for key, target in matched.items():
        try:
            values[target.variable] = target.convert(source[key], keep_half)
        except WeightsError as error:
            problems.append(str(error))
        if consume:
            source[key] = Entry(source[key].key, np.empty(0, np.float32))
    if problems:
        raise _problems_error(summary, problems)
    return values


def _problems_error(summary: str, problems: Sequence[str]) -> WeightsError:
    """One line for a single problem, a list for several."""
    if len(problems) != 1:
        return WeightsError(f"{summary}; problems: {len(problems)}", problems)
    error = WeightsError(f"{summary}: {problems[0]}")
    error.problems = tuple(problems)
    return error


def describe_net(model: nn.Module) -> str:
    return f"{model.describe()}, {model.num_classes} classes"
