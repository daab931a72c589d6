"""The training step and the evaluation step: pure functions, for the caller to jit with its
shardings.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from aia_jax.errors import UserError
from aia_jax.shapes import Array, PyTree
from aia_jax.training import metrics
from aia_jax.training.freezing import Frozen, nothing_frozen
from aia_jax.training.optimizer import global_norm
from aia_jax.training.state import TrainState

IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], np.float32)  # of RGB on 0…1
IMAGENET_STD = np.array([0.229, 0.224, 0.225], np.float32)


def normalize(clips: Array) -> Array:
    """uint8 RGB [..., 3] → float32 by ImageNet's mean and standard deviation on the 0…1 scale."""
    return (clips.astype(jnp.float32) / 255 - IMAGENET_MEAN) / IMAGENET_STD


def make_train_step(
    model: nn.Module,
    tx: optax.GradientTransformation,
    *,
    accumulate: int = 1,
    label_smoothing: float = 0.0,
    ema_decay: float = 0.0,
    frozen: Frozen = nothing_frozen,
    preprocess: Callable[[Array], Array] = normalize,
) -> Callable[[TrainState, dict[str, Array], Array], tuple[TrainState, dict[str, Array]]]:
    """Builds `train_step(state, batch, key) -> (state, metrics)`; jit it with `donate_argnums=0`.

    With `accumulate` = k the batch goes through the net as k micro-batches, one after another. Each
    is normalised by its own BatchNorm statistics and updates the running averages in its turn, as k
    separate forward passes would; the k gradients are averaged and make ONE optimiser step. So it
    is the mean gradient of k small batches: without BatchNorm and dropout the same as one large
    batch, with BatchNorm not (the statistics are over B/k clips), and the running averages move k
    times a step. Micro-batch i is rows i, i + k, i + 2k, … of the batch: every device then finds
    its share of it among the rows it holds.

    Args:
        model: called as `model.apply(variables, clips, train=True, rngs={"dropout": …},
            mutable=["batch_stats"])`.
        tx: the optimiser, of `make_optimizer`.
        accumulate: micro-batches a step.
        label_smoothing: share of the target that is spread over all classes.
        ema_decay: d of `ema = d·ema + (1 − d)·new`, for parameters and running statistics; used
            when the state has an `ema`.
        frozen: of `frozen_rule`, the optimiser's too: no gradient is computed for what it holds,
            and grad_norm leaves it out.
        preprocess: from the batch's pixels to what the model takes.

    Returns:
        The step. It takes a batch {"clips": uint8 [B, T, H, W, 3], "labels": int [B]} and the run's
        key, the same at every step: the step's number is folded in. Its metrics are device scalars:
        loss (nats), top1, top5 (fractions) of the batch, before the update; grad_norm, before
        clipping. A loss that is not finite is reported like any other; whoever reads it decides. It
        raises `UserError`, when it is traced, if B cannot be split in `accumulate`.
    """

    def loss_of(
        params: PyTree, batch_stats: PyTree, batch: dict[str, Array], key: Array
    ) -> tuple[Array, Any]:
        params = jax.tree.map(
            lambda p, held: jax.lax.stop_gradient(p) if held else p, params, frozen(params)
        )
        variables = {"params": params, "batch_stats": batch_stats}
        logits, mutated = model.apply(
            variables,
            preprocess(batch["clips"]),
            train=True,
            rngs={"dropout": key},
            mutable=["batch_stats"],
        )  # [B, K]
        losses = metrics.cross_entropy(logits, batch["labels"], label_smoothing)
        means = metrics.batch_means(losses, logits, batch["labels"])
        return means["loss"], (mutated.get("batch_stats", {}), means)

    gradient_of = jax.grad(loss_of, has_aux=True)

    def micro_batches(
        state: TrainState, batch: dict[str, Array], key: Array
    ) -> tuple[PyTree, PyTree, dict[str, Array]]:
        size = batch["labels"].shape[0]
        if size % accumulate:
            raise UserError(
                f"train.batch_size={size} cannot be split in train.accumulate={accumulate} equal "
                "micro-batches"
            )
        columns = jax.tree.map(
            lambda x: x.reshape(size // accumulate, accumulate, *x.shape[1:]), batch
        )  # [B/k, k, ...]

        def one(carry: PyTree, i: Array) -> tuple[PyTree, dict[str, Array]]:
            batch_stats, sums = carry
            rows = jax.tree.map(
                lambda x: jax.lax.dynamic_index_in_dim(x, i, axis=1, keepdims=False), columns
            )  # [B/k, ...]
            grads, (batch_stats, means) = gradient_of(
                state.params, batch_stats, rows, jax.random.fold_in(key, i)
            )
            return (batch_stats, jax.tree.map(jnp.add, sums, grads)), means

        start = (state.batch_stats, jax.tree.map(jnp.zeros_like, state.params))
        (batch_stats, sums), means = jax.lax.scan(
            one, start, jnp.arange(accumulate)
        )  # means: [k] each
        return (
            jax.tree.map(lambda x: x / accumulate, sums),
            batch_stats,
            jax.tree.map(jnp.mean, means),
        )

    def train_step(
        state: TrainState, batch: dict[str, Array], key: Array
    ) -> tuple[TrainState, dict[str, Array]]:
        key = jax.random.fold_in(key, state.step)
        if accumulate == 1:
            grads, (batch_stats, means) = gradient_of(
                state.params, state.batch_stats, batch, jax.random.fold_in(key, 0)
            )
        else:
            grads, batch_stats, means = micro_batches(state, batch, key)
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ema = state.ema
        if ema is not None:
            new = {"params": params, "batch_stats": batch_stats}
            ema = jax.tree.map(lambda old, now: ema_decay * old + (1 - ema_decay) * now, ema, new)
        return TrainState(state.step + 1, params, batch_stats, opt_state, ema), {
            **means,
            "grad_norm": global_norm(grads),
        }

    return train_step


def make_eval_step(
    model: nn.Module, *, preprocess: Callable[[Array], Array] = normalize
) -> Callable[[PyTree, dict[str, Array]], dict[str, Array]]:
    """Builds `eval_step(variables, batch) -> sums`, to be added over batches and divided by the sum
    of weights.

    Returns:
        A function of {"params", "batch_stats"} and a batch {"clips": uint8 [B, T, H, W, 3],
        "labels": int [B], "weights": float [B]} to
        float32 scalars: loss, top1, top5, weight. Rows of weight 0 count nothing. Clips [B, N, T,
        H, W, 3] are N clips a video: their logits are averaged, as the reference does.
    """

    def eval_step(variables: PyTree, batch: dict[str, Array]) -> dict[str, Array]:
        clips = batch["clips"]
        videos, frames = clips.shape[0], clips.shape[-4:]
        logits = model.apply(
            variables, preprocess(clips.reshape(-1, *frames)), train=False
        )  # [B·N, K]
        logits = logits.reshape(videos, -1, logits.shape[-1]).mean(1)
        return metrics.weighted_sums(logits, batch["labels"], batch["weights"])

    return eval_step
