"""The learning rate of a step: the recipe's milestones or a cosine, both behind a linear warm-up.

A schedule is a function of the step alone, so a run that goes on has the rate that it would have
had.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from aia_jax.errors import UserError

# From the step (0-based) to the learning rate, a scalar.
Schedule = Callable[[Any], jax.Array]

_LAST_STEP = 2**31 - 1  # steps are counted in 32 bits
_LARGEST_RATE = 3.4e38  # of float32


def make_schedule(optim: Any, steps_per_epoch: int, global_batch: int, epochs: int = 0) -> Schedule:
    """The learning rate of a step.

    It is `lr` scaled to the batch. "steps": × `decay` from each milestone on. "cosine": it falls
    along half a cosine (Loshchilov & Hutter 2017, Eq. 5, without restarts) a little at every step,
    from all of it behind the warm-up to `final_lr` of it at the end of the last epoch.

    Args:
        optim: the config's `optim` fields lr, lr_batch_size, schedule, milestones (epochs), decay,
            final_lr, warmup_epochs.
        steps_per_epoch: optimiser steps.
        global_batch: clips that one optimiser step sees, over all devices and micro-batches.
        epochs: of the whole run; only "cosine" needs to know.

    Returns:
        A function from the step (0-based) to a scalar. The first step of the warm-up has 1/n of the
        rate, the n-th all of it.

    Raises:
        UserError: an epoch has no step, or a rate is too large for float32.
    """
    if steps_per_epoch < 1:
        raise UserError(
            f"an epoch has {steps_per_epoch} steps: the batch is larger than the data set; use a "
            "smaller train.batch_size"
        )

    def step_of(epoch: int | float) -> int:
        return round(min(epoch * steps_per_epoch, _LAST_STEP))

    base = optim.lr * global_batch / optim.lr_batch_size
    warmup_steps = step_of(optim.warmup_epochs)
    if optim.schedule == "cosine":
        rates, schedule = [base], _cosine(base, optim.final_lr, warmup_steps, step_of(epochs))
    else:
        borders = [step_of(epoch) for epoch in sorted(optim.milestones)]
        # Python computes the powers, in float64.
        try:
            rates = [base * optim.decay**passed for passed in range(len(borders) + 1)]
        except OverflowError:
            rates = [math.inf]
        schedule = _milestones(rates, borders, warmup_steps)
    if max(rates) > _LARGEST_RATE:
        raise UserError(
            f"optim.lr={optim.lr:g} at optim.lr_batch_size={optim.lr_batch_size} and "
            f"optim.decay={optim.decay:g} give {global_batch} clips a learning rate above "
            f"{_LARGEST_RATE:g}; lower them"
        )
    return schedule


def describe_schedule(optim: Any) -> str:
    """The schedule in words: "× 0.1 after epochs 20 and 40, warm-up over 2 epochs"."""
    if optim.schedule == "cosine":
        text = f"a cosine down to × {optim.final_lr:g} at the end"
    elif optim.milestones:
        *others, last = map(str, optim.milestones)
        epochs = f"epochs {', '.join(others)} and {last}" if others else f"epoch {last}"
        text = f"× {optim.decay:g} after {epochs}"
    else:
        text = "constant"
    warmup = optim.warmup_epochs
    return f"{text}, warm-up over {warmup:g} epoch{'s' * (warmup != 1)}" if warmup else text


def _milestones(rates: Sequence[float], borders: Sequence[int], warmup_steps: int) -> Schedule:
    """`rates[k]` from the k-th border on."""

    def schedule(step: Any) -> jax.Array:
        milestones_passed = sum(
            (jnp.asarray(step >= border, jnp.int32) for border in borders), jnp.zeros((), jnp.int32)
        )
        ramp = _ramp(step, warmup_steps)
        return jnp.asarray(rates)[milestones_passed] * ramp

    return schedule


def _cosine(base: float, final: float, warmup_steps: int, last_step: int) -> Schedule:
    """From `base` at the end of the warm-up to `final` × `base` at `last_step`."""

    def schedule(step: Any) -> jax.Array:
        passed = jnp.clip((step - warmup_steps) / max(last_step - warmup_steps, 1), 0.0, 1.0)
        rate = base * (final + (1 - final) * (1 + jnp.cos(math.pi * passed)) / 2)
        return rate * _ramp(step, warmup_steps)

    return schedule


def _ramp(step: Any, warmup_steps: int) -> jax.Array:
    return jnp.minimum(1.0, (step + 1) / max(warmup_steps, 1))
