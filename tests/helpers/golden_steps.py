"""Training steps on golden weights, in float64, with every array under the reference's key."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from aia_jax.models import network_of
from aia_jax.training.optimizer import make_optimizer
from aia_jax.weights import from_torch
from aia_jax.weights.names import match_variables
from tests.golden import recipe
from tests.helpers.optim import optim_fields

SGD = {"lr": 0.01, "lr_batch_size": 2, "momentum": 0.9, "clip_norm": 20.0}


def tensor(key: str, shape: tuple[int, ...]) -> np.ndarray:
    """The golden weight of networks whose 5-D kernels are no AIA units: scaled by the fan-in."""
    if len(shape) < 5:
        return recipe.tensor(key, shape)
    return recipe.tensor(key, (shape[0], int(np.prod(shape[1:])))).reshape(shape)


def with_head_of(shapes: Mapping[str, Any], classes: int) -> dict[str, tuple[int, ...]]:
    """Key → shape of the same network without dropout, whose head has torchvision's name."""
    rest = {key: tuple(shape) for key, shape in shapes.items() if not key.startswith("new_fc")}
    features = shapes["new_fc.weight"][1]
    return rest | {"base_model.fc.weight": (classes, features), "base_model.fc.bias": (classes,)}


def golden_of(path: Any, case: str) -> dict[str, np.ndarray]:
    """The arrays of one case of a golden file, without the case in their names."""
    arrays = dict(np.load(path)).items()
    return {name.removeprefix(f"{case}|"): a for name, a in arrays if name.startswith(f"{case}|")}


def largest_errors(
    model: nn.Module,
    state_dict: Mapping[str, np.ndarray],
    golden: Mapping[str, np.ndarray],
    weight_decay: float,
    averaged: Callable[[str], int],
    batch: tuple[np.ndarray, Sequence[int]] = (recipe.clips(2, 4, 64, 64), (3, 7)),
) -> dict[str, float]:
    """Takes two steps on one golden batch; relative errors.

    Call it with x64 enabled.

    Args:
        model: float64, without dropout.
        state_dict: float32 weights.
        golden: "loss" and "gnorm" of the steps; "logits", "gnorm KEY" and "grad KEY" of the first,
            "after KEY" of the last.
        weight_decay: of the recipe.
        averaged: from the key of a BatchNorm, how many numbers a channel its variance is taken of.
        batch: clips and labels.
    """
    x, labels = np.float64(batch[0]), np.array(batch[1])
    optim = optim_fields(**SGD, weight_decay=weight_decay, groups=model.optim_groups)
    tx, _ = make_optimizer(optim, steps_per_epoch=100, global_batch=2)
    variables = jax.tree.map(
        lambda leaf: jnp.asarray(leaf, jnp.float64), from_torch(state_dict, model)
    )
    slots = jax.tree.map(
        lambda slot: np.zeros(slot.shape, slot.dtype), jax.eval_shape(tx.init, variables["params"])
    )
    # All in one program, because every operation for itself compiles for every shape. Without
    # optimisations float64 convolutions take ten times as long.
    run = jax.jit(functools.partial(_step, model, tx))
    losses, norms, logits, gradients = [], [], [], []
    for _ in range(2):
        results, variables, slots = run(variables, slots, x, labels)
        for values, value in zip((losses, norms, logits, gradients), results, strict=True):
            values.append(value)
    first = in_torchs_layout({**variables, "params": gradients[0]}, model)
    last = in_torchs_layout(variables, model)

    errors = {}
    for name, theirs in golden.items():
        kind, _, key = name.partition(" ")
        if name in ("loss", "gnorm"):
            ours = np.array(losses if name == "loss" else norms)
        elif name == "logits":
            ours = np.array(logits[0])
        elif kind == "gnorm":
            ours = np.linalg.norm(first[key])
        elif kind == "grad":
            ours = first[key]
        else:
            ours = last[key]
            if key.endswith("running_var"):  # torch keeps the unbiased variance
                n, started = averaged(key), state_dict[key] * np.float64(0.9) ** 2
                ours = started + (ours - started) * n / (n - 1)
        # Some gradients are zero but for rounding, as that of a bias in front of BatchNorm.
        scale = max(np.abs(theirs).max(), 1e-6 * golden["gnorm"][0])
        errors[name] = float(np.abs(ours.ravel()[: theirs.size] - theirs.ravel()).max() / scale)
    return errors


def _step(model: nn.Module, tx: Any, variables: Any, slots: Any, x: Any, labels: Any) -> Any:
    """(loss, gradient's norm, logits, gradient), and variables and optimiser state after it."""

    def loss_of(params: Any) -> Any:
        logits, updated = model.apply(
            {**variables, "params": params}, x, train=True, mutable=["batch_stats"]
        )
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return losses.mean(), (logits, updated["batch_stats"])

    params = variables["params"]
    (loss, (logits, statistics)), gradient = jax.value_and_grad(loss_of, has_aux=True)(params)
    updates, slots = tx.update(gradient, slots, params)
    variables = {"params": optax.apply_updates(params, updates), "batch_stats": statistics}
    return (loss, optax.tree.norm(gradient), logits, gradient), variables, slots


def in_torchs_layout(tree: Any, model: nn.Module) -> dict[str, np.ndarray]:
    """The reference's key → array, for parameters, gradients or statistics under their paths."""
    names = network_of(model).torch_names
    leaves = {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
    return {
        names.reference_key(key, model): target.revert(leaves[target.variable])
        for key, target in match_variables(tree, model).items()
    }
