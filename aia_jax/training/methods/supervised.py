"""Supervised training: the loss of a clip's logits and its label. Keeps nothing of its own."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import optax

from aia_jax.models.preprocess import preprocessing
from aia_jax.shapes import Array, PyTree
from aia_jax.training.freezing import Frozen, nothing_frozen
from aia_jax.training.mixing import Mix, make_mix
from aia_jax.training.objective import Objective
from aia_jax.training.state import TrainState
from aia_jax.training.step import (
    Batch,
    Method,
    Metrics,
    accumulated_gradients,
    apply_gradients,
    step_key,
)

_MIX_STREAM = 1  # folded into a micro-batch's key; dropout has the key itself


def make_method(
    config: Any,
    model: nn.Module,
    tx: optax.GradientTransformation,
    frozen: Frozen,
    objective: Objective,
) -> Method:
    """The method of a recipe: `config.train` has its settings."""
    train = config.train

    def create(variables: PyTree, key: Array) -> TrainState:
        return TrainState.create(variables, tx, ema=train.ema_decay > 0)

    step = make_train_step(
        model,
        tx,
        accumulate=train.accumulate,
        objective=objective,
        mix=make_mix(train),
        ema_decay=train.ema_decay,
        frozen=frozen,
    )
    text = f"supervised; tested: the weights' moving average, decay {train.ema_decay:g}"
    return Method(create, step, text if train.ema_decay else "supervised", train.ema_decay)


def make_train_step(
    model: nn.Module,
    tx: optax.GradientTransformation,
    *,
    accumulate: int = 1,
    objective: Objective | None = None,
    mix: Mix | None = None,
    ema_decay: float = 0.0,
    frozen: Frozen = nothing_frozen,
    preprocess: Callable[[Array], Array] | None = None,
) -> Callable[[TrainState, Batch, Array], tuple[TrainState, Metrics]]:
    """Builds `train_step(state, batch, key) -> (state, metrics)`; jit it with `donate_argnums=0`.

    Args:
        model: called as `model.apply(variables, clips, train=True, rngs={"dropout": …},
            mutable=["batch_stats"])`.
        tx: the optimiser, from `make_optimizer`.
        accumulate: micro-batches a step, see `accumulated_gradients`.
        objective: from `make_objective`; None: cross-entropy of one label a video.
        mix: from `make_mix`, of the clips of each micro-batch; it needs an objective that knows
            the number of classes.
        ema_decay: of the moving average, see `apply_gradients`.
        frozen: the optimiser's rule, from `frozen_rule`. No gradient is computed for a frozen
            parameter, and grad_norm leaves it out.
        preprocess: from the batch's pixels to what the model takes; None takes the model's own.

    Returns:
        The step of `Method`. "labels" may also be soft targets, float [B, K]. Of clips that are
        mixed, top1 and top5 ask for the class with the largest share.
    """
    objective = objective or Objective()
    preprocess = preprocess or preprocessing(model)

    def loss(
        params: PyTree, batch_stats: PyTree, batch: Batch, key: Array
    ) -> tuple[Array, tuple[PyTree, Metrics]]:
        params = jax.tree.map(
            lambda p, held: jax.lax.stop_gradient(p) if held else p, params, frozen(params)
        )
        clips, targets = preprocess(batch["clips"]), batch["labels"]
        if mix is not None:
            clips, targets = mix(
                clips, objective.targets(targets), jax.random.fold_in(key, _MIX_STREAM)
            )
        # logits: [B, K].
        logits, mutated = model.apply(
            {"params": params, "batch_stats": batch_stats},
            clips,
            train=True,
            rngs={"dropout": key},
            mutable=["batch_stats"],
        )
        losses = objective.losses(logits, targets)
        means = objective.means(losses, logits, targets)
        return means["loss"], (mutated.get("batch_stats", {}), means)

    gradients = accumulated_gradients(loss, accumulate)

    def train_step(state: TrainState, batch: Batch, key: Array) -> tuple[TrainState, Metrics]:
        grads, batch_stats, means = gradients(
            state.params, state.batch_stats, batch, step_key(key, state)
        )
        state, grad_norm = apply_gradients(state, tx, grads, batch_stats, ema_decay)
        return state, {**means, "grad_norm": grad_norm}

    return train_step
