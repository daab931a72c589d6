"""Loss and top-k of a batch, as pure functions of logits and targets."""

import jax
import jax.numpy as jnp
import optax

from aia_jax.shapes import Array, Float, Int

Targets = Int[Array, " b"] | Float[Array, "b k"]  # a class each, or shares of all classes


def cross_entropy(
    logits: Float[Array, "b k"], targets: Targets, label_smoothing: float = 0.0
) -> Float[Array, " b"]:
    """Cross-entropy of every row, in nats, at least float32.

    Label smoothing spreads `label_smoothing` of a row's target over all classes, its own among them
    (torch's definition).

    Args:
        logits: any float dtype.
        targets: the class of each row, or soft targets: shares of the classes that sum to 1.
        label_smoothing: from 0 up to, not including, 1.
    """
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    if targets.ndim == 1 and not label_smoothing:
        return optax.softmax_cross_entropy_with_integer_labels(logits, targets)
    if targets.ndim == 1:
        targets = jax.nn.one_hot(targets, logits.shape[-1], dtype=logits.dtype)
    if label_smoothing:
        targets = optax.smooth_labels(targets, label_smoothing)
    return optax.softmax_cross_entropy(logits, targets)


def largest_class(targets: Targets) -> Int[Array, " b"]:
    """The class that top-1 and top-5 look for: of soft targets the one with the largest share."""
    return targets if targets.ndim == 1 else targets.argmax(-1)


def topk_correct(
    logits: Float[Array, "b k"], labels: Int[Array, " b"], k: int
) -> Float[Array, " b"]:
    """1.0 where the label is among the k largest logits, else 0.0.

    With k classes or fewer it always is. Of equal logits the lower class counts as larger. A row
    with a NaN is never correct.
    """
    own = jnp.take_along_axis(logits, labels[:, None], axis=-1)  # [B, 1]
    lower_class = jnp.arange(logits.shape[-1]) < labels[:, None]
    ahead = (logits > own) | ((logits == own) & lower_class)  # [B, K]
    # Counting replaces sorting, as a sort over a sharded batch gathers the logits on every device.
    return ((ahead.sum(-1) < k) & ~jnp.isnan(logits).any(-1)).astype(jnp.float32)


def batch_means(
    losses: Float[Array, " b"], logits: Float[Array, "b k"], targets: Targets
) -> dict[str, Array]:
    """Means over the batch: loss (nats), top1 and top5 (fractions); each a scalar."""
    labels = largest_class(targets)
    return {
        "loss": losses.mean(),
        "top1": topk_correct(logits, labels, 1).mean(),
        "top5": topk_correct(logits, labels, 5).mean(),
    }


def weighted_sums(
    logits: Float[Array, "b k"], labels: Int[Array, " b"], weights: Float[Array, " b"]
) -> dict[str, Array]:
    """Sums over the rows that count, float32 scalars: loss, top1, top5 and weight.

    Divide by weight for the means. A row of weight 0 (padding, a damaged video) adds nothing,
    whatever its logits are.
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
