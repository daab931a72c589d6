"""Loss and top-k of a batch, as pure functions of logits and labels."""

import jax
import jax.numpy as jnp
import optax

from aia_jax.shapes import Array, Float, Int


def cross_entropy(
    logits: Float[Array, "b k"], labels: Int[Array, " b"], label_smoothing: float = 0.0
) -> Float[Array, " b"]:
    """Cross-entropy of every row, in nats, at least float32.

    Label smoothing takes `label_smoothing` from the true class and spreads it over all classes, the
    true one too (torch's definition).
    """
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    if not label_smoothing:
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    targets = optax.smooth_labels(
        jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype), label_smoothing
    )
    return optax.softmax_cross_entropy(logits, targets)


def topk_correct(
    logits: Float[Array, "b k"], labels: Int[Array, " b"], k: int
) -> Float[Array, " b"]:
    """1.0 where the label is among the k largest logits, else 0.0: always, with k classes or fewer.

    Of equal logits the lower class counts as larger. A row of NaN is never correct.
    """
    own = jnp.take_along_axis(logits, labels[:, None], axis=-1)  # [B, 1]
    ahead = (logits > own) | (
        (logits == own) & (jnp.arange(logits.shape[-1]) < labels[:, None])
    )  # [B, K]
    # Counting instead of sorting: a sort over a sharded batch would gather the logits on every
    # device.
    return ((ahead.sum(-1) < k) & ~jnp.isnan(logits).any(-1)).astype(jnp.float32)


def batch_means(
    losses: Float[Array, " b"], logits: Float[Array, "b k"], labels: Int[Array, " b"]
) -> dict[str, Array]:
    """Means over the batch: loss (nats), top1 and top5 (fractions); each a scalar."""
    return {
        "loss": losses.mean(),
        "top1": topk_correct(logits, labels, 1).mean(),
        "top5": topk_correct(logits, labels, 5).mean(),
    }


def weighted_sums(
    logits: Float[Array, "b k"], labels: Int[Array, " b"], weights: Float[Array, " b"]
) -> dict[str, Array]:
    """Sums over the rows that count, float32 scalars: loss, top1, top5 and weight; divide by weight
    for the means.

    A row of weight 0 (padding, a damaged video) adds nothing, whatever its logits are.
    """
    counts = weights > 0
    rows = {
        "loss": cross_entropy(logits, labels),
        "top1": topk_correct(logits, labels, 1),
        "top5": topk_correct(logits, labels, 5),
        "weight": jnp.ones_like(weights),
    }
    return {
        name: jnp.where(counts, row * weights, 0.0).astype(jnp.float32).sum()
        for name, row in rows.items()
    }
