"""The optimisers by name, in optax pieces, all with clipping, groups and frozen parameters.

One step of `sgd`, in this order: clip the raw gradient by its global norm, add weight decay, add to
the momentum, multiply by the group's and the schedule's learning rate. It equals `torch.optim.SGD`
as the paper's code calls it; `optax.sgd` has no weight decay. The others divide the clipped
gradient by what its moments say. Most of them add weight decay behind that, as AdamW does.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from aia_jax.errors import UserError
from aia_jax.models.fields import value_text
from aia_jax.shapes import Array, PyTree
from aia_jax.training.freezing import Frozen, nothing_frozen
from aia_jax.training.parameter_groups import (
    Group,
    assign_groups,
    layer_factors,
    parse_groups,
)
from aia_jax.training.schedules import Schedule, make_schedule

_TORCH_CLIP_EPSILON = 1e-6  # clip_grad_norm_ divides by norm + 1e-6
_SMALL = 4096  # elements of a gradient that `global_norm` lays in one vector with others


class Optimiser(NamedTuple):
    """A row of the table of optimisers.

    Attributes:
        scale: from the config's `optim` and the betas to what makes an update of a gradient.
        betas: the usual ones; (): it has none, and `optim.momentum` instead.
        decoupled: weight decay is added to the update, × learning rate; else to the gradient.
        trust_ratio: a parameter's update is scaled to the parameter's norm.
    """

    scale: Callable[[Any, Sequence[float]], optax.GradientTransformation]
    betas: tuple[float, ...] = ()
    decoupled: bool = True
    trust_ratio: bool = False


def _adam(optim: Any, betas: Sequence[float]) -> optax.GradientTransformation:
    return optax.scale_by_adam(*betas, eps=1e-8)


OPTIMISERS: Mapping[str, Optimiser] = {
    # buf = momentum · buf + g from zeros: torch's first buf is g too.
    "sgd": Optimiser(lambda optim, _: optax.trace(optim.momentum), decoupled=False),
    # As torch.optim.Adam and torch.optim.AdamW (Kingma & Ba 2015; Loshchilov & Hutter 2019).
    "adam": Optimiser(_adam, (0.9, 0.999), decoupled=False),
    "adamw": Optimiser(_adam, (0.9, 0.999)),
    # You et al. 2020, Alg. 2, for large batches; ε is the authors'.
    "lamb": Optimiser(
        lambda _, betas: optax.scale_by_adam(*betas, eps=1e-6), (0.9, 0.999), trust_ratio=True
    ),
    # Chen et al. 2023, Alg. 2, with one moment. Its authors take a third to a tenth of AdamW's
    # learning rate, and 3 to 10 times its weight decay.
    "lion": Optimiser(lambda _, betas: optax.scale_by_lion(*betas), (0.9, 0.99)),
}


def make_optimizer(
    optim: Any,
    steps_per_epoch: int,
    global_batch: int,
    frozen: Frozen = nothing_frozen,
    *,
    epochs: int = 0,
    layers: Sequence[str] = (),
) -> tuple[optax.GradientTransformation, Schedule]:
    """The optimiser and its schedule from the config's `optim`.

    Its state is one or two moments, each a tree of the parameters' shapes, and step counts; it
    shards as the parameters do.

    Args:
        optim: fields name, momentum, betas, weight_decay, clip_norm (0 = off), groups, layer_decay,
            and those of `make_schedule`.
        steps_per_epoch: optimiser steps.
        global_batch: clips that one optimiser step sees.
        frozen: the rule of `frozen_rule`. A frozen parameter gets no update at all: no weight
            decay, and its gradient does not count in the norm.
        epochs: of the whole run; only the schedule "cosine" needs to know.
        layers: the network's `layer_paths`; only `layer_decay` needs to know.

    Returns:
        (optax transformation, step → learning rate of the ×1 groups). `init` and `update` raise
        `UserError` when the groups or layers do not fit the parameters (see `assign_groups` and
        `layer_factors`), or the rule does not.

    Raises:
        UserError: there is no such optimiser, lists those there are; or it has no betas.
    """
    optimiser = find_optimiser(optim)
    groups = parse_groups(optim.groups)
    schedule = make_schedule(optim, steps_per_epoch, global_batch, epochs)

    def clip(updates: Any, params: Any) -> Any:
        updates = jax.tree.map(
            lambda u, held: jnp.zeros_like(u) if held else u, updates, frozen(params)
        )
        factor = 1.0
        if optim.clip_norm:
            factor = optim.clip_norm / (global_norm(updates) + _TORCH_CLIP_EPSILON)
            factor = jnp.minimum(1.0, factor)
        return jax.tree.map(lambda u: u * factor, updates)

    def add_decay(updates: Any, params: Any) -> Any:
        def decayed(u: Any, p: Any, group: Group, held: bool) -> Any:
            # A frozen parameter gets no decay either, so that its moments stay zero.
            return u if held else u + optim.weight_decay * group.decay * p

        return jax.tree.map(decayed, updates, params, assign_groups(params, groups), frozen(params))

    def scale_by_group(updates: Any, params: Any) -> Any:
        factors = layer_factors(params, layers, optim.layer_decay)
        return jax.tree.map(
            lambda u, group, factor: u * (group.lr * factor),
            updates,
            assign_groups(params, groups),
            factors,
        )

    def check_paths(params: Any) -> optax.EmptyState:
        assign_groups(params, groups)
        layer_factors(params, layers, optim.layer_decay)
        frozen(params)
        return optax.EmptyState()

    decay = optax.GradientTransformation(check_paths, optax.stateless(add_decay).update)
    scale = optimiser.scale(optim, optim.betas or optimiser.betas)
    chain = optax.chain(
        optax.stateless(clip),
        *((scale, decay) if optimiser.decoupled else (decay, scale)),
        *([optax.scale_by_trust_ratio()] if optimiser.trust_ratio else []),
        optax.stateless(scale_by_group),
        optax.scale_by_learning_rate(schedule),
    )
    return chain, schedule


def find_optimiser(optim: Any) -> Optimiser:
    """The row of `OPTIMISERS` that `optim.name` names.

    Raises:
        UserError: there is none, or it has no `optim.betas`.
    """
    if optim.name not in OPTIMISERS:
        raise UserError(
            f"config key optim.name: found {value_text(optim.name)}, expected "
            f"{', '.join(list(OPTIMISERS)[:-1])} or {list(OPTIMISERS)[-1]}"
        )
    optimiser = OPTIMISERS[optim.name]
    if optim.betas and not optimiser.betas:
        raise UserError(
            f"config key optim.betas: found {value_text(optim.betas)}, but {optim.name} has none; "
            "leave them out and set optim.momentum"
        )
    return optimiser


def describe_optimizer(optim: Any) -> str:
    """The optimiser in words: "sgd, momentum 0.9, weight decay 0.0001, gradient norm up to 20".

    Raises:
        UserError: as `find_optimiser`.
    """
    betas = optim.betas or find_optimiser(optim).betas
    moments = f"momentum {optim.momentum:g}"
    if betas:
        moments = f"betas {' and '.join(f'{beta:g}' for beta in betas)}"
    texts = [optim.name, moments, f"weight decay {optim.weight_decay:g}"]
    if optim.clip_norm:
        texts.append(f"gradient norm up to {optim.clip_norm:g}")
    if optim.layer_decay != 1:
        texts.append(f"learning rate × {optim.layer_decay:g} from each layer to the one below it")
    return ", ".join(texts)


def global_norm(gradients: PyTree) -> Array:
    """The square root of the sum of all squares, a scalar of the gradients' dtype.

    It equals `optax.tree.norm`, but lays small gradients in one vector first. Otherwise XLA fuses
    each sum with the computation of its gradient, which for the hundreds of small gradients that
    attention has takes a third of a training step's compile time.
    """
    leaves = jax.tree.leaves(gradients)
    small = [leaf.ravel() for leaf in leaves if leaf.size < _SMALL]
    large = [leaf for leaf in leaves if leaf.size >= _SMALL]
    return optax.tree.norm([jnp.concatenate(small), *large] if small else large)
