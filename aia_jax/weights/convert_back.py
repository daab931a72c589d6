"""Weights of this project as state dicts of PyTorch networks."""

from collections.abc import Mapping
from types import ModuleType

import flax.linen as nn
import numpy as np
from flax.traverse_util import flatten_dict

from aia_jax.errors import UserError
from aia_jax.models import name_of, network_of
from aia_jax.weights.convert import abstract_variables, describe_net
from aia_jax.weights.names import Variables, WeightsError, match_variables
from aia_jax.weights.report import Shape, shape_text

REFERENCE = "aia"  # the format of the authors' own networks, which every network here has


def format_names(names: ModuleType) -> tuple[str, ...]:
    """The formats that a network is written in.

    Args:
        names: the `torch_names` of the network.
    """
    return REFERENCE, *getattr(names, "FORMATS", ())


def to_torch(
    variables: Variables,
    model: nn.Module,
    clip_shape: Shape | None = None,
    format_name: str = REFERENCE,
) -> dict[str, np.ndarray]:
    """Turns variables into the state dict of the same network of the reference, or of a program.

    `from_torch` gives them back bit for bit. The reference's `load_state_dict(…, strict=True)`
    takes the result. A ResNet's keys begin with `base_model.`, but the head is `new_fc` where the
    network has dropout. `num_batches_tracked` is 0; torch does not use it at BatchNorm's usual
    momentum.

    Args:
        variables: {"params", "batch_stats"} of the whole network; float32 leaves.
        model: the network of these variables.
        clip_shape: [T, H, W, 3] of a clip that the network can take; None: its own
            (`aia_jax.models.clip_shape`).
        format_name: whose names the keys are: "aia", the reference's; or those of "mmaction2",
            "torchvision", "timm" or "transformers", whose own networks then load them.

    Returns:
        Key → new float32 array in torch's order of axes, int64 for `num_batches_tracked`.

    Raises:
        WeightsError: a variable is missing or has another shape or dtype.
        UserError: the program of this format has no such network.
    """
    names = network_of(model).torch_names
    if format_name not in format_names(names):
        raise UserError(
            f"{format_name} has no network for {model.describe()}; the network {name_of(model)} is "
            f"written in the format {' or '.join(format_names(names))}"
        )
    arrays = _canonical_arrays(variables, model, clip_shape)
    if format_name == REFERENCE:
        state_dict = {names.reference_key(key, model): value for key, value in arrays.items()}
        if unused := getattr(names, "unused_arrays", None):
            state_dict |= unused(model)
    else:
        state_dict = names.to_format(arrays, model, format_name)
    return _with_counters(state_dict)


def _canonical_arrays(
    variables: Variables, model: nn.Module, clip_shape: Shape | None
) -> dict[str, np.ndarray]:
    """Canonical key → array in torch's order of axes, for every variable of a network.

    Raises:
        WeightsError: as `to_torch`.
    """
    targets = match_variables(abstract_variables(model, clip_shape), model)
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
            f"the variables are not all of this net's ({describe_net(model)}); problems: "
            f"{len(problems)}",
            problems,
        )
    return {key: target.revert(leaves[target.variable]) for key, target in targets.items()}


def _with_counters(state_dict: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A state dict with `num_batches_tracked` behind each of BatchNorm's running variances."""
    counted = {}
    for key, value in state_dict.items():
        counted[key] = value
        if key.endswith(".running_var"):
            counted[key.replace("running_var", "num_batches_tracked")] = np.zeros((), np.int64)
    return counted
