"""A unit's gate in training, in few kernels: stencil, batch normalisation, sigmoid (Eqs. 5-8).

Planes are small and kernels short, so the time of a step with many units depends on how many
kernels start. The stencil's kernel also sums up the batch statistics. Numbers that XLA would
compute in kernels of their own, such as a slope from a variance, are computed again in each kernel
that needs them.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from aia_jax.ops.stencil.taps import stencil_by_taps, stencil_gradient_by_taps
from aia_jax.ops.triton.elementwise_kernels import (
    elementwise_kernel,
    num_programs,
    sum_products_kernel,
)
from aia_jax.ops.triton.partition import partition_over_clips
from aia_jax.ops.triton.stencil import num_partial_sums, stencil_gradient, stencil_with_sums
from aia_jax.ops.xla_fusion import at_least_float32
from aia_jax.shapes import Array, Float

Plane = Float[Array, "b i j k"]

# Means over a group's elements: of a value, and of its square or of its product with another. They
# are a pair of [g, 1], or one array [g, 2].
Moments = tuple[Array, Array]


@functools.partial(jax.custom_vjp, nondiff_argnums=(6, 7, 8))
def axis_gate(
    maximum: Plane,
    mean: Plane,
    ties: Plane | None,
    kernel: Float[Array, "3 3 3 2"],
    scale: Float[Array, " 1"],
    bias: Float[Array, " 1"],
    length: int,
    groups: int,
    epsilon: float,
) -> tuple[Plane, Float[Array, "g 1"], Float[Array, "g 1"]]:
    """Computes sigmoid(BN(stencil(maximum, mean))), normalised by the batch's statistics.

    The gradients of maximum and mean are those of one element of the pooled axis: that of maximum
    is divided by ties, that of mean by length.

    Args:
        maximum, mean, kernel: as `aia_jax.ops.stencil` takes them; floats of at most 32 bits.
        ties: how many elements equal the maximum; None if no gradient is needed.
        scale, bias: of the normalisation.
        length: of the pooled axis.
        groups: of clips; each group is normalised by its own statistics.
        epsilon: added to the variance.

    Returns:
        The gate in maximum's dtype, and each group's mean and biased variance in float32. Only the
        gate has a gradient.
    """
    return _forward(maximum, mean, ties, kernel, scale, bias, length, groups, epsilon)[0]


@functools.partial(jax.jit, static_argnums=(6, 7, 8))
def _forward(
    maximum: Array,
    mean: Array,
    ties: Array | None,
    kernel: Array,
    scale: Array,
    bias: Array,
    length: int,
    groups: int,
    epsilon: float,
) -> tuple[tuple[Array, Array, Array], tuple[Any, ...]]:
    response, sums = _stencil_with_sums(maximum, mean, kernel)
    moments = _group_moments(sums, groups, response.size)
    gate = _compute_elementwise(
        functools.partial(_gate, epsilon), (response,), (moments,), (scale, bias), maximum.dtype
    )
    saved = (maximum, mean, ties, kernel, scale, response, gate, moments)
    return (gate, *_mean_and_variance(_split(moments))), saved


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _backward(
    length: int,
    groups: int,
    epsilon: float,
    saved: tuple[Any, ...],
    gradients: tuple[Array, Array, Array],
) -> tuple[Array | None, ...]:
    maximum, mean, ties, kernel, scale, response, gate, moments = saved
    dgate = gradients[0]
    # Moments of the normalised response's gradient: its mean, and the mean of its product with the
    # response.
    dmoments = _group_moments(_gradient_sums(dgate, gate, response), groups, response.size)
    dresponse = _compute_elementwise(
        functools.partial(_dresponse, epsilon),
        (dgate, gate, response),
        (moments, dmoments),
        (scale,),
        maximum.dtype,
    )
    dmaximum, dmean, dkernel = _stencil_gradient(dresponse, maximum, mean, ties, kernel, 1 / length)
    dscale, dbias = _dscale_and_dbias(_split(moments), _split(dmoments), epsilon)
    count = response.size // groups
    return dmaximum, dmean, None, dkernel, dscale.sum(0) * count, dbias.sum(0) * count


axis_gate.defvjp(_forward, _backward)


# The arithmetic, on planes or parts of them. The normalisation's gradient is the formula of
# `ops/batch_norm.py`, with means instead of sums.


def _mean_and_variance(moments: Moments) -> tuple[Array, Array]:
    return moments[0], jnp.maximum(0.0, moments[1] - moments[0] * moments[0])


def _gate(epsilon: float, response: Array, moments: Moments, scale: Array, bias: Array) -> Array:
    mean, variance = _mean_and_variance(moments)
    slope = jax.lax.rsqrt(variance + epsilon) * scale
    return jax.nn.sigmoid(response * slope + (bias - mean * slope))


def _dnormalized(dgate: Array, gate: Array) -> Array:
    """The gradient of the normalised response, from that of its sigmoid."""
    return dgate * (gate * (1 - gate))


def _dscale_and_dbias(moments: Moments, dmoments: Moments, epsilon: float) -> tuple[Array, Array]:
    """The gradients of scale and bias, each divided by the number of elements."""
    mean, variance = _mean_and_variance(moments)
    dbias, products = dmoments
    return (products - mean * dbias) * jax.lax.rsqrt(variance + epsilon), dbias


def _dresponse(
    epsilon: float,
    dgate: Array,
    gate: Array,
    response: Array,
    moments: Moments,
    dmoments: Moments,
    scale: Array,
) -> Array:
    mean, variance = _mean_and_variance(moments)
    dscale, dbias = _dscale_and_dbias(moments, dmoments, epsilon)
    inverse = jax.lax.rsqrt(variance + epsilon)
    slope = inverse * scale
    x_factor = -inverse * slope * dscale
    offset = -slope * dbias - x_factor * mean
    return _dnormalized(dgate, gate) * slope + response * x_factor + offset


def _group_moments(sums: Array, groups: int, size: int) -> Array:
    """Moments of each group, [g, 2], from n pairs of partial sums of each clip, [b, n, 2].

    Args:
        size: elements of all groups together.
    """
    # The factor comes before the sum: an operation after it would be a kernel of its own.
    return (sums * (groups / size)).reshape(groups, -1, 2).sum(1)


def _split(moments: Array) -> Moments:
    return moments[:, :1], moments[:, 1:]


# The steps, each as kernels on CUDA and as XLA's operations elsewhere.


def _stencil_with_sums(maximum: Array, mean: Array, kernel: Array) -> tuple[Array, Array]:
    """The response, and partial sums of it and of its square, [b, n, 2]."""

    def by_xla(maximum: Array, mean: Array, kernel: Array) -> tuple[Array, Array]:
        response = stencil_by_taps(maximum, mean, kernel)
        sums = _sum_each_clip(response, jnp.square(response), num_partial_sums(response.shape))
        return response, sums

    return jax.lax.platform_dependent(maximum, mean, kernel, cuda=stencil_with_sums, default=by_xla)


def _stencil_gradient(
    dresponse: Array, maximum: Array, mean: Array, ties: Array, kernel: Array, mean_factor: float
) -> tuple[Array, Array, Array]:
    """One element's gradients of maximum and mean, and the gradient of the kernel."""

    def by_xla(
        dresponse: Array, maximum: Array, mean: Array, ties: Array, kernel: Array
    ) -> tuple[Array, Array, Array]:
        dmaximum, dmean, dkernel = stencil_gradient_by_taps(
            at_least_float32(dresponse), at_least_float32(maximum), at_least_float32(mean), kernel
        )
        dmaximum = (dmaximum / ties).astype(maximum.dtype)
        return dmaximum, (dmean * mean_factor).astype(mean.dtype), dkernel

    def by_kernel(
        dresponse: Array, maximum: Array, mean: Array, ties: Array, kernel: Array
    ) -> tuple[Array, Array, Array]:
        return stencil_gradient(dresponse, maximum, mean, kernel, ties, mean_factor)

    return jax.lax.platform_dependent(
        dresponse, maximum, mean, ties, kernel, cuda=by_kernel, default=by_xla
    )


def _gradient_sums(dgate: Array, gate: Array, response: Array) -> Array:
    """Partial sums of `_dnormalized` and of its product with the response, [b, n, 2]."""

    def by_xla(dgate: Array, gate: Array, response: Array) -> tuple[Array]:
        dnormalized = _dnormalized(at_least_float32(dgate), at_least_float32(gate))
        count = num_programs(response[0].size)
        return (_sum_each_clip(dnormalized, dnormalized * response, count),)

    kernel = partition_over_clips(
        lambda *planes: (sum_products_kernel(_dnormalized, *planes),), [3]
    )
    return jax.lax.platform_dependent(dgate, gate, response, cuda=kernel, default=by_xla)[0]


def _sum_each_clip(first: Array, second: Array, count: int) -> Array:
    """The sums of two planes [b, i, j, k] over each clip, as the first of `count` partial sums."""
    sums = jnp.stack([first.sum((1, 2, 3)), second.sum((1, 2, 3))], -1)
    return jnp.pad(sums[:, None], ((0, 0), (0, count - 1), (0, 0)))


def _compute_elementwise(
    function: Callable[..., Array],
    planes: tuple[Array, ...],
    moments: tuple[Array, ...],
    numbers: tuple[Array, ...],
    dtype: Any,
) -> Array:
    """Computes `function(*planes, *moments, *numbers)` element by element, and rounds to `dtype`.

    Args:
        planes: [b, i, j, k]; the function takes them in float32.
        moments: [g, 2] of the planes' g groups; the function takes each as a pair.
        numbers: [1].
    """
    clips, groups = planes[0].shape[0], moments[0].shape[0]
    if groups > 1:
        moments = tuple(jnp.repeat(each, clips // groups, axis=0) for each in moments)
    p, m = len(planes), len(moments)

    def by_xla(*operands: Array) -> tuple[Array]:
        pairs = [
            tuple(part[..., None, None] for part in _split(each)) for each in operands[p : p + m]
        ]
        values = function(*map(at_least_float32, operands[:p]), *pairs, *operands[p + m :])
        return (values.astype(dtype),)

    def by_kernel(*operands: Array) -> tuple[Array]:
        return (
            elementwise_kernel(
                function, operands[:p], operands[p : p + m], operands[p + m :], dtype
            ),
        )

    num_replicated = len(numbers) + (m if groups == 1 else 0)
    kernel = partition_over_clips(by_kernel, [4], num_replicated)
    return jax.lax.platform_dependent(*planes, *moments, *numbers, cuda=kernel, default=by_xla)[0]
