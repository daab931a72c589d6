"""Batch normalisation as functions, with a gradient that stores little (Ioffe & Szegedy 2015).

Training normalises by the statistics of the batch, or of each of several groups of its rows
(`normalize_batch`); evaluation by running statistics (`normalize_by_statistics`).
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from aia_jax.ops.frames import time_parts
from aia_jax.ops.fused_reductions import sum_rows
from aia_jax.ops.xla_fusion import at_least_float32
from aia_jax.shapes import Array, Float


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
@functools.partial(jax.jit, static_argnums=(3, 4))  # traced once for each shape
def normalize_batch(
    x: Float[Array, "n ... c"],
    scale: Float[Array, " c"],
    bias: Float[Array, " c"],
    groups: int,
    epsilon: float,
) -> tuple[Float[Array, "n ... c"], Float[Array, "g c"], Float[Array, "g c"]]:
    """Normalises each channel by the statistics of each group of rows (Algorithm 1).

    Within a group every channel of the result has the mean `bias` and the standard deviation
    `scale`. The gradient stores x and the statistics; JAX's own derivative of the definition would
    also store the centred and the normalised x.

    Args:
        x: any float dtype. Its first axis is split into `groups` equal blocks of rows.
        scale, bias: one number a channel.
        groups: how many blocks of rows have statistics of their own; divides n.
        epsilon: added to the variance.

    Returns:
        The normalised x in x's dtype, and each group's mean and biased variance in float32 (float64
        for float64). Only the first has a gradient.
    """
    mean, variance = _statistics(x, groups)
    return _normalize(x, scale, bias, mean, variance, epsilon), mean, variance


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def normalize_batch_sigmoid(
    x: Float[Array, "n ... c"],
    scale: Float[Array, " c"],
    bias: Float[Array, " c"],
    groups: int,
    epsilon: float,
) -> tuple[Float[Array, "n ... c"], Float[Array, "g c"], Float[Array, "g c"]]:
    """Computes the sigmoid of `normalize_batch`'s first result; the rest is the same."""
    return _sigmoid_forward(x, scale, bias, groups, epsilon)[0]


def normalize_by_statistics(
    x: Float[Array, "n ... c"],
    mean: Float[Array, " c"],
    var: Float[Array, " c"],
    scale: Float[Array, " c"],
    bias: Float[Array, " c"],
    epsilon: float,
) -> Float[Array, "n ... c"]:
    """Normalises each channel by given statistics: what batch normalisation does in evaluation.

    The operations and their order are those of Flax's `BatchNorm`, so the results have its bits.

    Args:
        x: any float dtype.
        mean, var: running statistics, one number a channel.
        scale, bias: one number a channel.
        epsilon: added to the variance.

    Returns:
        (x - mean) / sqrt(var + epsilon) * scale + bias, in the widest dtype of the operands.
    """
    return (x - mean) * (jax.lax.rsqrt(var + epsilon) * scale) + bias


def group_count(rows: int, group_rows: int) -> int:
    """Counts the groups of `group_rows` rows; `group_rows` 0 makes one group of all rows.

    Raises:
        ValueError: if the rows do not split into such groups.
    """
    group_rows = group_rows or rows
    if rows % group_rows:
        raise ValueError(f"{rows} rows do not split into groups of {group_rows} for BatchNorm")
    return rows // group_rows


@functools.partial(jax.jit, static_argnums=2)  # traced once for each shape
def running_average(
    running: Float[Array, " c"], groups: Float[Array, "g c"], momentum: float
) -> Float[Array, " c"]:
    """Moves a running statistic towards the mean over groups of this batch's statistic.

    Args:
        running: the running statistic until now.
        groups: the same statistic of each group of this batch.
        momentum: the share of `running` that stays.
    """
    return momentum * running + (1 - momentum) * groups.mean(0)


def _normalize(
    x: Array, scale: Array, bias: Array, mean: Array, variance: Array, epsilon: float
) -> Array:
    slope = jax.lax.rsqrt(variance + epsilon) * scale
    normalized = at_least_float32(x) * _stretch(slope, x) + _stretch(bias - mean * slope, x)
    return normalized.astype(x.dtype)


def _statistics(x: Array, groups: int) -> tuple[Array, Array]:
    """Mean and biased variance of each group, [g, C], in one pass over x."""
    count = x.size // x.shape[-1] // groups
    sums = _sum_each_row(at_least_float32(x), jnp.square(at_least_float32(x)))
    mean, mean_of_squares = (_sum_groups(rows, groups) / count for rows in sums)
    return mean, jnp.maximum(0.0, mean_of_squares - jnp.square(mean))


def _sum_each_row(*arrays: Array) -> tuple[Array, ...]:
    """Sums each array [n, …, C] over all axes but the first and the last: [n, C]."""
    return tuple(array.sum(tuple(range(1, array.ndim - 1))) for array in arrays)


def _sum_each_row_fused(*arrays: Array) -> tuple[Array, ...]:
    """Does what `_sum_each_row` does, for arrays of a single channel, [n, …, 1], on CPUs.

    Without it XLA hands a sum of products to a library that takes three times as long there.
    """
    return tuple(rows[:, None] for rows in sum_rows(*(array[..., 0] for array in arrays)))


def _sum_groups(rows: Array, groups: int) -> Array:
    """Sums over the rows of each group, [n, C] → [g, C].

    Groups are formed of sums over rows, not of x: x is never reshaped, so its sharding stays.
    """
    return rows.reshape(groups, -1, rows.shape[-1]).sum(1)


def _stretch(groups: Array, x: Array) -> Array:
    """Repeats [g, C] to a shape that broadcasts against x, [1 or n, 1, …, C]."""
    if groups.shape[0] > 1:
        groups = jnp.repeat(groups, x.shape[0] // groups.shape[0], axis=0)
    return jnp.expand_dims(groups, tuple(range(1, x.ndim - 1)))


def _forward(
    x: Array, scale: Array, bias: Array, groups: int, epsilon: float
) -> tuple[tuple[Array, Array, Array], tuple[Array, ...]]:
    y, mean, variance = normalize_batch(x, scale, bias, groups, epsilon)
    return (y, mean, variance), (x, scale, mean, variance)


@functools.partial(jax.jit, static_argnums=(0, 1, 4))
def _backward(
    groups: int,
    epsilon: float,
    saved: tuple[Array, ...],
    gradients: tuple[Array, Array, Array],
    sum_each_row: Callable[..., tuple[Array, ...]] = _sum_each_row,
) -> tuple[Array, Array, Array]:
    x, scale, mean, variance = saved
    dy = gradients[0]
    dscale, dbias = _parameter_gradients(dy, x, mean, variance, epsilon, sum_each_row)
    dx = _input_gradient(dy, x, scale, mean, variance, dscale, dbias, epsilon)
    return dx, dscale.sum(0), dbias.sum(0)


def _parameter_gradients(
    dy: Array,
    x: Array,
    mean: Array,
    variance: Array,
    epsilon: float,
    sum_each_row: Callable[..., tuple[Array, ...]] = _sum_each_row,
) -> tuple[Array, Array]:
    """Each group's gradients of scale and bias, [g, C]."""
    # The sum is over dy · x, not over dy times the normalised x: XLA would compute the normalised x
    # in the forward pass, where it can, and store it until here (docs/experiments.md, "Batch
    # normalisation: that gradient with a sum").
    sums = sum_each_row(at_least_float32(dy), at_least_float32(dy) * at_least_float32(x))
    dbias, products = (_sum_groups(rows, len(mean)) for rows in sums)
    return (products - mean * dbias) * jax.lax.rsqrt(variance + epsilon), dbias


def _input_gradient(
    dy: Array,
    x: Array,
    scale: Array,
    mean: Array,
    variance: Array,
    dscale: Array,
    dbias: Array,
    epsilon: float,
) -> Array:
    """dx = slope · (dy - mean(dy) - normalised x · mean(dy · normalised x)).

    The last two terms are written as a linear function of x, `x_factor` · x + `offset`.
    """
    inverse = jax.lax.rsqrt(variance + epsilon)
    count = x.size // x.shape[-1] // len(mean)
    slope, x_factor = inverse * scale, -inverse * inverse * scale * dscale / count
    offset = -slope * dbias / count - x_factor * mean
    dx = (
        at_least_float32(dy) * _stretch(slope, x)
        + at_least_float32(x) * _stretch(x_factor, x)
        + _stretch(offset, x)
    )
    return dx.astype(x.dtype)


@functools.partial(jax.jit, static_argnums=(3, 4))
def _sigmoid_forward(
    x: Array, scale: Array, bias: Array, groups: int, epsilon: float
) -> tuple[tuple[Array, Array, Array], tuple[Array, ...]]:
    # Several passes read x, here and in the gradient; the barrier keeps XLA from computing it anew
    # for each of them.
    x = jax.lax.optimization_barrier(x)
    mean, variance = _statistics(x, groups)
    y = jax.nn.sigmoid(_normalize(x, scale, bias, mean, variance, epsilon))
    return (y, mean, variance), (x, scale, bias, mean, variance, y)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _sigmoid_backward(
    groups: int, epsilon: float, saved: tuple[Array, ...], gradients: tuple[Array, Array, Array]
) -> tuple[Array, Array, Array]:
    def on_cpus(
        dy: Array, x: Array, scale: Array, bias: Array, mean: Array, variance: Array, y: Array
    ) -> tuple[Array, Array, Array]:
        dnormalized = dy * (y * (1 - y))
        # On a mesh XLA would gather planes that are split over `time` to sum them this way.
        fused = x.shape[-1] == 1 and time_parts() == 1
        sum_each_row = _sum_each_row_fused if fused else _sum_each_row
        gradients_of_results = (dnormalized, *gradients[1:])
        return _backward(
            groups, epsilon, (x, scale, mean, variance), gradients_of_results, sum_each_row
        )

    def elsewhere(
        dy: Array, x: Array, scale: Array, bias: Array, mean: Array, variance: Array, _: Array
    ) -> tuple[Array, Array, Array]:
        def dnormalized(x: Array) -> Array:
            y = jax.nn.sigmoid(_normalize(x, scale, bias, mean, variance, epsilon))
            return dy * (y * (1 - y))

        # Two passes need dnormalized, and both read x anyway: each computes y from x. Without a
        # barrier before each pass XLA would compute dnormalized once and write it to memory.
        x = jax.lax.optimization_barrier(x)
        dscale, dbias = _parameter_gradients(dnormalized(x), x, mean, variance, epsilon)
        x = jax.lax.optimization_barrier(x)
        dx = _input_gradient(dnormalized(x), x, scale, mean, variance, dscale, dbias, epsilon)
        return dx, dscale.sum(0), dbias.sum(0)

    return jax.lax.platform_dependent(gradients[0], *saved, cpu=on_cpus, default=elsewhere)


normalize_batch.defvjp(_forward, _backward)
normalize_batch_sigmoid.defvjp(_sigmoid_forward, _sigmoid_backward)
