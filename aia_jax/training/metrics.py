"""Loss and top-k of a batch, as pure functions of logits and targets."""

import jax
import jax.numpy as jnp
import optax

from aia_jax.shapes import Array, Float, Int, UInt8

# Which classes a row has (0 or 1), or its shares of them.
Shares = UInt8[Array, "b k"] | Float[Array, "b k"]
Targets = Int[Array, " b"] | Shares  # a class each, or of all classes


def cross_entropy(
    logits: Float[Array, "b k"],
    targets: Targets,
    label_smoothing: float = 0.0,
    class_weights: Array | None = None,
) -> Float[Array, " b"]:
    """Cross-entropy of every row, in nats, at least float32.

    Label smoothing spreads `label_smoothing` of a row's target over all classes, its own among them
    (torch's definition; also with weights, which the spread share has too).

    Args:
        logits: any float dtype.
        targets: the class of each row, or soft targets: shares of the classes that sum to 1.
        label_smoothing: from 0 up to, not including, 1.
        class_weights: float [K], a factor on the term of each class; None: 1 each.
    """
    logits = _at_least_float32(logits)
    if targets.ndim == 1 and not label_smoothing and class_weights is None:
        return optax.softmax_cross_entropy_with_integer_labels(logits, targets)
    if targets.ndim == 1:
        targets = jax.nn.one_hot(targets, logits.shape[-1], dtype=logits.dtype)
    if label_smoothing:
        targets = optax.smooth_labels(targets, label_smoothing)
    if class_weights is not None:
        targets = targets * jnp.asarray(class_weights, logits.dtype)
    return optax.softmax_cross_entropy(logits, targets)


def sigmoid_cross_entropy(
    logits: Float[Array, "b k"],
    targets: Shares,
    label_smoothing: float = 0.0,
    class_weights: Array | None = None,
) -> Float[Array, " b"]:
    """Mean over the classes of the binary cross-entropies of every row, in nats, at least float32.

    Label smoothing spreads `label_smoothing` of a target evenly over yes and no.

    Args:
        logits: any float dtype; the sigmoid of each is its class's probability.
        targets: 1 for a class that the row has, 0 for the others; or shares between them.
        label_smoothing: from 0 up to, not including, 1.
        class_weights: float [K], a factor on the term of each class; None: 1 each.
    """
    logits = _at_least_float32(logits)
    targets = jnp.asarray(targets, logits.dtype)
    if label_smoothing:
        targets = (1 - label_smoothing) * targets + label_smoothing / 2
    losses = optax.sigmoid_binary_cross_entropy(logits, targets)  # [B, K]
    if class_weights is not None:
        losses = losses * jnp.asarray(class_weights, logits.dtype)
    return losses.mean(-1)


def _at_least_float32(logits: Array) -> Array:
    return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))


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


def any_topk_correct(logits: Float[Array, "b k"], targets: Shares, k: int) -> Float[Array, " b"]:
    """1.0 where one of the row's own classes is among the k largest logits, else 0.0.

    Its own are those with its largest share; a row without any class is never correct. For the rest
    see `topk_correct`.
    """
    own = (targets > 0) & (targets == targets.max(-1, keepdims=True))  # [B, K]
    foremost = jnp.where(own, logits, -jnp.inf).argmax(-1)  # of equal logits the lowest class
    return topk_correct(logits, foremost, k) * own.any(-1)


def batch_means(
    losses: Float[Array, " b"], logits: Float[Array, "b k"], targets: Targets
) -> dict[str, Array]:
    """Means over the batch: loss (nats), top1 and top5 (fractions); each a scalar.

    Of shares the largest is the class that counts; of equal ones each is.
    """
    correct = topk_correct if targets.ndim == 1 else any_topk_correct
    return {
        "loss": losses.mean(),
        "top1": correct(logits, targets, 1).mean(),
        "top5": correct(logits, targets, 5).mean(),
    }


def weighted_sums(
    logits: Float[Array, "b k"], labels: Int[Array, " b"], weights: Float[Array, " b"]
) -> dict[str, Array]:
    """Sums over the rows that count, float32: loss, top1, top5, weight, and two by class.

    Divide by weight for the means. A row of weight 0 (padding, a damaged video) adds nothing,
    whatever its logits are.

    Returns:
        Scalars, and "class_videos" and "class_top1" [K]: the rows of each class, and how many of
        them top-1 finds.
    """
    rows = {
        "loss": cross_entropy(logits, labels),
        "top1": topk_correct(logits, labels, 1),
        "top5": topk_correct(logits, labels, 5),
        "weight": jnp.ones_like(weights),
    }
    rows = _counted(rows, weights)
    sums = {name: row.sum() for name, row in rows.items()}
    own = jax.nn.one_hot(labels, logits.shape[-1])  # [B, K]
    for name, row in (("class_videos", rows["weight"]), ("class_top1", rows["top1"])):
        sums[name] = (own * row[:, None]).sum(0)
    return sums


def multilabel_sums(
    logits: Float[Array, "b k"], targets: Shares, weights: Float[Array, " b"]
) -> dict[str, Array]:
    """As `weighted_sums`, for rows with several classes: loss, top1, top5 and weight."""
    rows = {
        "loss": sigmoid_cross_entropy(logits, targets),
        "top1": any_topk_correct(logits, targets, 1),
        "top5": any_topk_correct(logits, targets, 5),
        "weight": jnp.ones_like(weights),
    }
    return {name: row.sum() for name, row in _counted(rows, weights).items()}


def _counted(rows: dict[str, Array], weights: Array) -> dict[str, Array]:
    """Rows [B] times their weights, float32; 0 where the weight is, even if the row is NaN."""
    return {
        name: jnp.where(weights > 0, row * weights, 0.0).astype(jnp.float32)
        for name, row in rows.items()
    }
