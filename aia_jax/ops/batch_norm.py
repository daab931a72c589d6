"""Batch normalisation by the statistics of the batch, with a gradient that keeps little (Ioffe &
Szegedy 2015, Algorithm 1).
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from aia_jax.ops.fused_reductions import sums_of_rows
from aia_jax.ops.xla_fusion import wide
from aia_jax.shapes import Array, Float


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
@functools.partial(jax.jit, static_argnums=(3, 4))  # traced once a shape, as its gradient
def batch_normalized(
    x: Float[Array, "n ... c"],
    scale: Float[Array, " c"],
    bias: Float[Array, " c"],
    groups: int,
    epsilon: float,
) -> tuple[Float[Array, "n ... c"], Float[Array, "g c"], Float[Array, "g c"]]:
    """Normalises each channel to mean `bias` and standard deviation `scale` over the rows of each
    group.

    For the gradient it keeps x and the statistics: neither the centred nor the normalised x, as a
    derivative rule by rule would.

    Args:
        x: any float dtype. Group g is the g-th of `groups` equal blocks of rows.
        epsilon: added to the variance.

    Returns:
        What is normalised, of x's dtype, and each group's mean and (biased) variance in float32
        (float64 for float64). Only the first is differentiated.
    """
    mean, variance = _statistics(x, groups)
    return _normalized(x, scale, bias, mean, variance, epsilon), mean, variance


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def batch_normalized_sigmoid(
    x: Float[Array, "n ... c"],
    scale: Float[Array, " c"],
    bias: Float[Array, " c"],
    groups: int,
    epsilon: float,
) -> tuple[Float[Array, "n ... c"], Float[Array, "g c"], Float[Array, "g c"]]:
    """As `batch_normalized`, but of what is normalised the sigmoid."""
    return _sigmoid_forward(x, scale, bias, groups, epsilon)[0]


def _normalized(
    x: Array, scale: Array, bias: Array, mean: Array, variance: Array, epsilon: float
) -> Array:
    slope = jax.lax.rsqrt(variance + epsilon) * scale
    return (wide(x) * _to_rows(slope, x) + _to_rows(bias - mean * slope, x)).astype(x.dtype)


def _over_rows(*values: Array) -> tuple[Array, ...]:
    """The sums over each row, [n, C]."""
    return tuple(v.sum(tuple(range(1, v.ndim - 1))) for v in values)


def _over_rows_in_one_pass(*values: Array) -> tuple[Array, ...]:
    """The same of a single channel on a CPU, where XLA leaves a sum of products to a library that
    takes three times as long.
    """
    return tuple(of_rows[:, None] for of_rows in sums_of_rows(*(v[..., 0] for v in values)))


def _of_groups(rows: Array, groups: int) -> Array:
    """Sums over the rows of a group, [g, C], of sums over rows: x itself is never reshaped, so its
    sharding stays.
    """
    return rows.reshape(groups, -1, rows.shape[-1]).sum(1)


def _to_rows(values: Array, x: Array) -> Array:
    """[g, C], repeated to stretch over x: [1 or n, 1, …, C]."""
    rows = (
        values
        if values.shape[0] == 1
        else jnp.repeat(values, x.shape[0] // values.shape[0], axis=0)
    )
    return jnp.expand_dims(rows, tuple(range(1, x.ndim - 1)))


def _statistics(x: Array, groups: int) -> tuple[Array, Array]:
    count = x.size // x.shape[-1] // groups
    mean, square = (
        _of_groups(rows, groups) / count for rows in _over_rows(wide(x), jnp.square(wide(x)))
    )  # one pass over x
    return mean, jnp.maximum(0.0, square - jnp.square(mean))


def _forward(
    x: Array, scale: Array, bias: Array, groups: int, epsilon: float
) -> tuple[tuple[Array, Array, Array], tuple[Array, ...]]:
    y, mean, variance = batch_normalized(x, scale, bias, groups, epsilon)
    return (y, mean, variance), (x, scale, mean, variance)


@functools.partial(jax.jit, static_argnums=(0, 1, 4))
def _backward(
    groups: int,
    epsilon: float,
    saved: tuple[Array, ...],
    gradients: tuple[Array, Array, Array],
    over_rows: Callable[..., tuple[Array, ...]] = _over_rows,
) -> tuple[Array, Array, Array]:
    x, scale, mean, variance = saved
    of_y = gradients[0]
    of_scale, of_bias = _of_parameters(of_y, x, mean, variance, epsilon, over_rows)
    return (
        _of_x(of_y, x, scale, mean, variance, of_scale, of_bias, epsilon),
        of_scale.sum(0),
        of_bias.sum(0),
    )


def _of_parameters(
    of_y: Array,
    x: Array,
    mean: Array,
    variance: Array,
    epsilon: float,
    over_rows: Callable[..., tuple[Array, ...]] = _over_rows,
) -> tuple[Array, Array]:
    """Each group's gradients of scale and bias."""
    # Not as a sum over of_y times the normalised x: XLA would compute that in the forward pass
    # already, where it can, and keep it.
    of_bias, products = (
        _of_groups(rows, len(mean)) for rows in over_rows(wide(of_y), wide(of_y) * wide(x))
    )
    return (products - mean * of_bias) * jax.lax.rsqrt(variance + epsilon), of_bias


def _of_x(
    of_y: Array,
    x: Array,
    scale: Array,
    mean: Array,
    variance: Array,
    of_scale: Array,
    of_bias: Array,
    epsilon: float,
) -> Array:
    inverse = jax.lax.rsqrt(variance + epsilon)
    count = x.size // x.shape[-1] // len(mean)
    # of_x = slope · (of_y − mean of of_y − normalised x · mean of (of_y · normalised x)), the last
    # two as a line in x.
    slope, line = inverse * scale, -inverse * inverse * scale * of_scale / count
    offset = -slope * of_bias / count - line * mean
    of_x = wide(of_y) * _to_rows(slope, x) + wide(x) * _to_rows(line, x) + _to_rows(offset, x)
    return of_x.astype(x.dtype)


@functools.partial(jax.jit, static_argnums=(3, 4))
def _sigmoid_forward(
    x: Array, scale: Array, bias: Array, groups: int, epsilon: float
) -> tuple[tuple[Array, Array, Array], tuple[Array, ...]]:
    x = jax.lax.optimization_barrier(x)  # several passes read it, here and in the gradient
    mean, variance = _statistics(x, groups)
    y = jax.nn.sigmoid(_normalized(x, scale, bias, mean, variance, epsilon))
    return (y, mean, variance), (x, scale, bias, mean, variance, y)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _sigmoid_backward(
    groups: int, epsilon: float, saved: tuple[Array, ...], gradients: tuple[Array, Array, Array]
) -> tuple[Array, Array, Array]:
    def on_cpus(
        of_y: Array, x: Array, scale: Array, bias: Array, mean: Array, variance: Array, y: Array
    ) -> tuple[Array, Array, Array]:
        of_normalized = of_y * (y * (1 - y))
        over_rows = _over_rows_in_one_pass if x.shape[-1] == 1 else _over_rows
        return _backward(
            groups, epsilon, (x, scale, mean, variance), (of_normalized, *gradients[1:]), over_rows
        )

    def elsewhere(
        of_y: Array, x: Array, scale: Array, bias: Array, mean: Array, variance: Array, _: Array
    ) -> tuple[Array, Array, Array]:
        def of_normalized(x: Array) -> Array:
            y = jax.nn.sigmoid(_normalized(x, scale, bias, mean, variance, epsilon))
            return of_y * (y * (1 - y))

        # Each of two passes computes y from x, which it reads anyway: behind a barrier of its own,
        # or XLA would write a plane for both.
        x = jax.lax.optimization_barrier(x)
        of_scale, of_bias = _of_parameters(of_normalized(x), x, mean, variance, epsilon)
        x = jax.lax.optimization_barrier(x)
        return (
            _of_x(of_normalized(x), x, scale, mean, variance, of_scale, of_bias, epsilon),
            of_scale.sum(0),
            of_bias.sum(0),
        )

    return jax.lax.platform_dependent(gradients[0], *saved, cpu=on_cpus, default=elsewhere)


batch_normalized.defvjp(_forward, _backward)
batch_normalized_sigmoid.defvjp(_sigmoid_forward, _sigmoid_backward)
