"""The 3x3x3 convolution on a pooled pair, written as a stencil.

A convolution from two channels to one leaves matrix units and convolution libraries idle (7 times
the cost of the whole plain network on a CPU). As 54 shifted multiply-adds over planes that are
small after pooling it is one pass of vector arithmetic.
"""

import functools
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from aia_jax.ops.stencil.convolution import ROWS, banded, banded_kernel_gradient
from aia_jax.ops.triton import stencil_kernel as gpu_stencil
from aia_jax.ops.triton.availability import use_gpu_kernels
from aia_jax.ops.triton.by_clips import by_clips
from aia_jax.ops.xla_fusion import apart, wide
from aia_jax.shapes import Array, Float

_INNER_SHIFTS = tuple(itertools.product(range(3), repeat=2))
_TAPS = tuple(itertools.product(range(3), repeat=3))
# that the taps are added up in, side by side: in a single one a processor waits for each addition
# before it begins the next
_SUMS = 4


@jax.custom_vjp
def stencil(
    maximum: Float[Array, "b i j k"], mean: Float[Array, "b i j k"], kernel: Float[Array, "3 3 3 2"]
) -> Float[Array, "b i j k"]:
    """Correlates the pair (maximum, mean) with one kernel; zeros beyond the edges (paper, Eqs. 5-8:
    `3DConv`).

    Args:
        maximum, mean: pooled planes of one dtype.
        kernel: its first three axes run along i, j and k, the last over (maximum, mean); float32,
            or float64 for such planes.

    Returns:
        The correlation, of the kernel's dtype.
    """
    return jax.lax.platform_dependent(
        maximum, mean, kernel, default=by_taps, **_on_gpus(maximum, _by_kernel)
    )


def by_taps(maximum: Array, mean: Array, kernel: Array) -> Array:
    """In XLA's operations."""
    return _correlate((wide(maximum), wide(mean)), kernel[..., None])[0]


def _on_gpus(plane: Array, function: Callable[..., Any]) -> dict[str, Callable[..., Any]]:
    """`function` for NVIDIA's GPUs, where kernels are used."""
    return {"cuda": function} if use_gpu_kernels(plane) else {}


def _by_kernel(maximum: Array, mean: Array, kernel: Array) -> Array:
    return by_clips(lambda *operands: (gpu_stencil.correlate(*operands),), [4], shared=1)(
        maximum, mean, kernel
    )[0]


def _gradient_by_kernel(
    gradient: Array, maximum: Array, mean: Array, kernel: Array
) -> tuple[Array, Array, Array]:
    of_maximum, of_mean, of_kernel = by_clips(gpu_stencil.gradient, [4, 4, 5], shared=1)(
        gradient, maximum, mean, kernel
    )
    return of_maximum, of_mean, of_kernel.sum(0)


def _ringed(plane: Array) -> Array:
    """With a ring of zeros, so that every tap is a slice."""
    return jnp.pad(plane, ((0, 0), (1, 1), (1, 1), (1, 1)))


@jax.jit  # traced once a shape, and one program rather than hundreds where a caller does not jit
def _correlate(planes: tuple[Array, ...], kernels: Array) -> tuple[Array, ...]:
    """For each q the sum over planes p and taps of plane p, shifted, times kernels[..., p, q]."""
    # Batch statistics, the gate and gradients all read the sums. On other backends than CPUs these
    # readers are one, or behind a barrier.
    return apart(_taps, tuple(map(_ringed, planes)), kernels)


def _taps(ringed: tuple[Array, ...], kernels: Array) -> tuple[Array, ...]:
    # In `lax`: these are most of the operations of a network with attention, and JAX traces
    # indexing and operators half as fast.
    batch, i, j, k = (size - 2 * (axis > 0) for axis, size in enumerate(ringed[0].shape))
    planes, results = kernels.shape[3:]
    sums: list[list[Array]] = [[] for _ in range(results)]
    for n, (p, (a, b, c)) in enumerate(itertools.product(range(planes), _TAPS)):
        shifted = jax.lax.slice(ringed[p], (0, a, b, c), (batch, a + i, b + j, c + k))
        for q in range(results):
            weight = jax.lax.slice(kernels, (a, b, c, p, q), (a + 1, b + 1, c + 1, p + 1, q + 1))
            tap = jax.lax.mul(shifted, jax.lax.broadcast(weight.reshape(()), shifted.shape))
            if n < _SUMS:
                sums[q].append(tap)
            else:
                sums[q][n % _SUMS] = jax.lax.add(sums[q][n % _SUMS], tap)
    return tuple(functools.reduce(jax.lax.add, of_q) for of_q in sums)


def _forward(
    maximum: Array, mean: Array, kernel: Array
) -> tuple[Array, tuple[Array, Array, Array]]:
    return _with_gradient_to_come(maximum, mean, kernel), (maximum, mean, kernel)


@jax.jit
def _with_gradient_to_come(maximum: Array, mean: Array, kernel: Array) -> Array:
    def on_cpus(maximum: Array, mean: Array, kernel: Array) -> Array:
        return _correlate_in_training_on_cpus((wide(maximum), wide(mean)), kernel[..., None])[0]

    return jax.lax.platform_dependent(
        maximum, mean, kernel, cpu=on_cpus, default=by_taps, **_on_gpus(maximum, _by_kernel)
    )


def _correlate_in_training_on_cpus(planes: tuple[Array, ...], kernels: Array) -> tuple[Array, ...]:
    """As `_correlate`; not for a forward pass alone, which compiles fast with taps and gives
    infinities their own rows.
    """
    # The taps of all units and of their gradients would be half of what a training step takes to
    # compile. Planes of many rows (those of frames pooled over T; all, where clips have more than
    # eight frames) stay with them: a band takes three times as long there.
    return (banded if planes[0].shape[1] <= ROWS else _correlate)(planes, kernels)


@jax.jit
def _backward(saved: tuple[Array, Array, Array], gradient: Array) -> tuple[Array, Array, Array]:
    def as_the_pair(function: Callable[..., Any], *operands: Array) -> tuple[Array, Array, Array]:
        of_maximum, of_mean, of_kernel = function(*map(wide, operands))
        return of_maximum.astype(saved[0].dtype), of_mean.astype(saved[1].dtype), of_kernel

    forms = {
        "cpu": functools.partial(as_the_pair, _gradient_on_cpus),
        "default": functools.partial(as_the_pair, gradient_by_taps),
    }
    return jax.lax.platform_dependent(
        gradient, *saved, **forms, **_on_gpus(gradient, _gradient_by_kernel)
    )


def gradient_by_taps(
    gradient: Array, maximum: Array, mean: Array, kernel: Array
) -> tuple[Array, Array, Array]:
    """The gradient of maximum, mean and kernel from that of their correlation, for backends other
    than CPUs.
    """
    return *_correlate((gradient,), _turned(kernel)), _kernel_gradient(gradient, maximum, mean)


def _gradient_on_cpus(
    gradient: Array, maximum: Array, mean: Array, kernel: Array
) -> tuple[Array, Array, Array]:
    return *_correlate_in_training_on_cpus((gradient,), _turned(kernel)), banded_kernel_gradient(
        gradient, maximum, mean
    )


def _turned(kernel: Array) -> Array:
    """The kernels, from one plane to two, that a gradient is correlated with."""
    return kernel[::-1, ::-1, ::-1, None]


@jax.jit
def _kernel_gradient(gradient: Array, maximum: Array, mean: Array) -> Array:
    """Inner products of a gradient with every shift of the planes, [3, 3, 3, 2].

    One reduction for all products of an outer shift, so that it reads the planes once; for more at
    once XLA would write products to memory. It sums over a layer of a clip; clips stay apart until
    the end: on a mesh each device sums its own, and one sum over devices of these few numbers is
    all that moves.
    """
    i, j, k = gradient.shape[1:]
    ringed = _ringed(maximum), _ringed(mean)

    def inner_shifts(a: int) -> list[Array]:
        products = [
            gradient * plane[:, a : a + i, b : b + j, c : c + k]
            for b, c in _INNER_SHIFTS
            for plane in ringed
        ]
        zeros = [jnp.zeros((), gradient.dtype)] * len(products)
        return jax.lax.reduce(
            products, zeros, lambda one, other: list(map(jnp.add, one, other)), (2, 3)
        )  # [b, i] each

    return (
        jnp.stack([sums for a in range(3) for sums in inner_shifts(a)], -1)
        .sum((0, 1))
        .reshape(3, 3, 3, 2)
    )


stencil.defvjp(_forward, _backward)
