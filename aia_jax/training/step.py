"""What a training method is, and what its steps are made of: gradients of a batch, the update."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from aia_jax.errors import UserError
from aia_jax.shapes import Array, PyTree
from aia_jax.training.optimizer import global_norm
from aia_jax.training.state import TrainState

Batch = dict[str, Array]  # {"clips": uint8 [B, T, H, W, 3], "labels": int [B] or float [B, K]}
Metrics = dict[str, Array]  # scalars

# (params, batch_stats, batch, key) → (loss, (new batch_stats, metrics)).
Loss = Callable[[PyTree, PyTree, Batch, Array], tuple[Array, tuple[PyTree, Metrics]]]
# (params, batch_stats, batch, key) → (gradients, new batch_stats, metrics).
Gradients = Callable[[PyTree, PyTree, Batch, Array], tuple[PyTree, PyTree, Metrics]]


@dataclasses.dataclass(frozen=True)
class Method:
    """What the training loop asks of a method: two pure functions, which the loop jits.

    Attributes:
        create: (variables, key) → the `TrainState` before the first step. The variables are those
            that the run starts from; the key is for what the method draws itself, such as a
            teacher's head.
        step: (state, batch, key) → (state, metrics). The batch is {"clips": uint8
            [B, T, H, W, 3], "labels": int [B]}; the key is the run's, the same at every step.
            Metrics are device scalars: loss (nats), top1, top5 (fractions) of the batch before the
            update; grad_norm before clipping; and whatever else the method wants in the log. A loss
            that is not finite is reported like any other: the log stops the run.
        text: what the start table says of it.
        old_share: how much of a moving average that is evaluated in the network's place stays as
            it was in a step; 0 without such an average.
        rates: keys of the config, of which a lower value may help where a loss is not finite.
    """

    create: Callable[[PyTree, Array], TrainState]
    step: Callable[[TrainState, Batch, Array], tuple[TrainState, Metrics]]
    text: str = ""
    old_share: float = 0.0
    rates: tuple[str, ...] = ("optim.lr",)


def accumulated_gradients(loss: Loss, accumulate: int = 1) -> Gradients:
    """The gradients of a batch, computed over `accumulate` micro-batches one after another.

    With `accumulate` = k each micro-batch is normalised by its own BatchNorm statistics and updates
    the running averages in its turn, as k separate forward passes would; the k gradients are
    averaged. So the result is the mean gradient of k small batches: without BatchNorm and dropout
    it equals that of one large batch, with BatchNorm it does not (the statistics are over B/k
    clips), and the running averages move k times. Micro-batch i is rows i, i + k, i + 2k, … of the
    batch: every device then finds its share of it among the rows it holds.

    Returns:
        A function of (params, batch_stats, batch, key). Micro-batch i has the key
        `fold_in(key, i)`. Metrics are means over the micro-batches. It raises `UserError`, when it
        is traced, if B cannot be split.
    """
    gradient = jax.grad(loss, has_aux=True)

    def whole_batch_gradients(
        params: PyTree, batch_stats: PyTree, batch: Batch, key: Array
    ) -> tuple[PyTree, PyTree, Metrics]:
        grads, (batch_stats, means) = gradient(
            params, batch_stats, batch, jax.random.fold_in(key, 0)
        )
        return grads, batch_stats, means

    def micro_batch_gradients(
        params: PyTree, batch_stats: PyTree, batch: Batch, key: Array
    ) -> tuple[PyTree, PyTree, Metrics]:
        size = batch["labels"].shape[0]
        if size % accumulate:
            raise UserError(
                f"train.batch_size={size} cannot be split in train.accumulate={accumulate} equal "
                "micro-batches"
            )
        # The rows of micro-batch i become column i: [B/k, k, ...].
        columns = jax.tree.map(
            lambda x: x.reshape(size // accumulate, accumulate, *x.shape[1:]), batch
        )

        def add_micro_batch(carry: PyTree, i: Array) -> tuple[PyTree, Metrics]:
            batch_stats, sums = carry
            # Micro-batch i: [B/k, ...].
            rows = jax.tree.map(
                lambda x: jax.lax.dynamic_index_in_dim(x, i, axis=1, keepdims=False), columns
            )
            grads, (batch_stats, means) = gradient(
                params, batch_stats, rows, jax.random.fold_in(key, i)
            )
            return (batch_stats, jax.tree.map(jnp.add, sums, grads)), means

        start = (batch_stats, jax.tree.map(jnp.zeros_like, params))
        (batch_stats, sums), means = jax.lax.scan(add_micro_batch, start, jnp.arange(accumulate))
        grads = jax.tree.map(lambda x: x / accumulate, sums)
        return grads, batch_stats, jax.tree.map(jnp.mean, means)  # means: [k] each

    return whole_batch_gradients if accumulate == 1 else micro_batch_gradients


def apply_gradients(
    state: TrainState,
    tx: optax.GradientTransformation,
    grads: PyTree,
    batch_stats: PyTree,
    ema_decay: float = 0.0,
) -> tuple[TrainState, Array]:
    """The state after one optimiser step, and the norm of the gradients before clipping.

    Args:
        state: before the step.
        tx: the optimiser.
        grads: of `state.params`.
        batch_stats: the new running statistics.
        ema_decay: d of `ema = d·ema + (1 − d)·new`, for parameters and running statistics; used
            when the state has an `ema`.
    """
    updates, opt_state = tx.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    ema = state.ema
    if ema is not None:
        new = {"params": params, "batch_stats": batch_stats}
        ema = jax.tree.map(lambda old, now: ema_decay * old + (1 - ema_decay) * now, ema, new)
    new_state = state.replace(
        step=state.step + 1, params=params, batch_stats=batch_stats, opt_state=opt_state, ema=ema
    )
    return new_state, global_norm(grads)


def step_key(key: Any, state: TrainState) -> Array:
    """The key of a step: the run's key with the step's number folded in."""
    return jax.random.fold_in(key, state.step)
