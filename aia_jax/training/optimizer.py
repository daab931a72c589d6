"""SGD with momentum, equal to `torch.optim.SGD` as the paper's code calls it, in optax pieces.

One step, in this order: clip the raw gradient by its global norm, add weight decay, add to the
momentum, multiply by the group's and the schedule's learning rate. Weight decay before momentum is
torch's order; `optax.sgd` has no weight decay and AdamW's comes after.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from aia_jax.errors import UserError
from aia_jax.shapes import Array, PyTree
from aia_jax.training.freezing import Frozen, nothing_frozen

_LAST_STEP = 2**31 - 1  # steps are counted in 32 bits
_LARGEST_RATE = 3.4e38  # of float32
_TORCH_CLIP_EPSILON = 1e-6  # clip_grad_norm_ divides by norm + 1e-6
_SMALL = 4096  # elements of a gradient that `global_norm` lays in one vector with others
_LISTED = 8  # parameters that an error names before it says how many more there are


@dataclasses.dataclass(frozen=True)
class Group:
    """Factors for the parameters whose whole '/'-joined path matches `pattern`.

    Attributes:
        pattern: a regular expression.
        lr: factor on the learning rate.
        decay: factor on the weight decay.
    """

    pattern: str
    lr: float = 1.0
    decay: float = 1.0


def parse_groups(groups: Iterable[Sequence[Any]]) -> tuple[Group, ...]:
    """Reads `optim.groups` of a config: `(("head/bias", {"lr": 2.0, "decay": 0.0}), …)`.

    A factor that is left out is 1.

    Raises:
        UserError: an unknown factor, or a pattern that is no regular expression.
    """
    parsed = []
    for pattern, factors in groups:
        unknown = sorted(set(factors) - {"lr", "decay"})
        if unknown:
            raise UserError(
                f"optim.groups: {pattern!r} sets {unknown[0]!r}; a group may set 'lr' and 'decay'"
            )
        try:
            re.compile(pattern)
        except (re.error, RecursionError, OverflowError) as error:
            raise UserError(
                f"optim.groups: {pattern!r} is not a regular expression ({error})"
            ) from error
        parsed.append(Group(pattern, **{name: float(factor) for name, factor in factors.items()}))
    return tuple(parsed)


def assign_groups(params: Any, groups: Sequence[Group]) -> Any:
    """The group of every parameter: the first whose pattern matches the whole path.

    Args:
        params: a tree of arrays or of their shapes.

    Returns:
        The same tree with a `Group` in each leaf's place.

    Raises:
        UserError: a parameter that no pattern matches, or a group that gets no parameter: most
            often a misspelt pattern, whose parameters would otherwise fall to the next group
            without a word.
    """
    paths, structure = jax.tree_util.tree_flatten_with_path(params)
    names = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in paths]
    chosen = [
        next((group for group in groups if re.fullmatch(group.pattern, name)), None)
        for name in names
    ]
    uncovered = [name for name, group in zip(names, chosen, strict=True) if group is None]
    if uncovered:
        more = f" and {len(uncovered) - _LISTED} more" if len(uncovered) > _LISTED else ""
        raise UserError(
            f"optim.groups covers {len(names) - len(uncovered)} of {len(names)} parameters; add a "
            f"pattern for {', '.join(uncovered[:_LISTED])}{more}"
        )
    unused = [group.pattern for group in groups if group not in chosen]
    if unused:
        raise UserError(
            f"optim.groups: no parameter is left for {unused[0]!r}; correct the pattern, move it "
            "up or remove it"
        )
    return jax.tree_util.tree_unflatten(structure, chosen)


def make_schedule(
    optim: Any, steps_per_epoch: int, global_batch: int
) -> Callable[[Any], jax.Array]:
    """The learning rate of a step.

    It is `lr` scaled to the batch, × `decay` from each milestone on, ramped up linearly over the
    warm-up.

    Args:
        optim: the config's `optim` fields lr, lr_batch_size, milestones (epochs), decay,
            warmup_epochs.
        steps_per_epoch: optimiser steps.
        global_batch: clips that one optimiser step sees, over all devices and micro-batches.

    Returns:
        A function from the step (0-based) to a scalar. The first step of the warm-up has 1/n of the
        rate, the n-th all of it.
    """
    if steps_per_epoch < 1:
        raise UserError(
            f"an epoch has {steps_per_epoch} steps: the batch is larger than the data set; use a "
            "smaller train.batch_size"
        )
    base = optim.lr * global_batch / optim.lr_batch_size
    borders = tuple(
        round(min(epoch * steps_per_epoch, _LAST_STEP)) for epoch in sorted(optim.milestones)
    )
    warmup_steps = round(min(optim.warmup_epochs * steps_per_epoch, _LAST_STEP))
    # Python computes the powers, in float64.
    try:
        rates = [base * optim.decay**passed for passed in range(len(borders) + 1)]
    except OverflowError:
        rates = [math.inf]
    if max(rates) > _LARGEST_RATE:
        raise UserError(
            f"optim.lr={optim.lr:g} at optim.lr_batch_size={optim.lr_batch_size} and "
            f"optim.decay={optim.decay:g} give {global_batch} clips a learning rate above "
            f"{_LARGEST_RATE:g}; lower them"
        )

    def schedule(step: Any) -> jax.Array:
        milestones_passed = sum(
            (jnp.asarray(step >= border, jnp.int32) for border in borders), jnp.zeros((), jnp.int32)
        )
        ramp = jnp.minimum(1.0, (step + 1) / max(warmup_steps, 1))
        return jnp.asarray(rates)[milestones_passed] * ramp

    return schedule


def make_optimizer(
    optim: Any, steps_per_epoch: int, global_batch: int, frozen: Frozen = nothing_frozen
) -> tuple[optax.GradientTransformation, Callable[[Any], jax.Array]]:
    """The optimiser and its schedule from the config's `optim`.

    Its state is the momentum, a tree of the parameters' shapes, and a step count; it shards as the
    parameters do.

    Args:
        optim: fields lr, lr_batch_size, momentum, weight_decay, clip_norm (0 = off), milestones,
            decay, warmup_epochs, groups.
        steps_per_epoch: optimiser steps.
        global_batch: clips that one optimiser step sees.
        frozen: the rule of `frozen_rule`. A frozen parameter gets no update at all: no weight
            decay, and its gradient does not count in the norm.

    Returns:
        (optax transformation, step → learning rate of the ×1 groups). `init` and `update` raise
        `UserError` when the groups do not fit the parameters (see `assign_groups`), or the rule
        does not.
    """
    groups = parse_groups(optim.groups)
    schedule = make_schedule(optim, steps_per_epoch, global_batch)

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
            # A frozen parameter gets no decay either, so that its momentum stays zero.
            return u if held else u + optim.weight_decay * group.decay * p

        return jax.tree.map(decayed, updates, params, assign_groups(params, groups), frozen(params))

    def scale_by_group(updates: Any, params: Any) -> Any:
        return jax.tree.map(lambda u, group: u * group.lr, updates, assign_groups(params, groups))

    def check_groups(params: Any) -> optax.EmptyState:
        assign_groups(params, groups)
        frozen(params)
        return optax.EmptyState()

    decay = optax.stateless(add_decay)
    chain = optax.chain(
        optax.stateless(clip),
        optax.GradientTransformation(check_groups, decay.update),
        # buf = momentum · buf + g from zeros: torch's first buf is g too.
        optax.trace(optim.momentum),
        optax.stateless(scale_by_group),
        optax.scale_by_learning_rate(schedule),
    )
    return chain, schedule


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
