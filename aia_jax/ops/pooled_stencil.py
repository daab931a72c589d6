"""The 3x3x3 convolution on a pooled pair, written as a stencil.

A convolution from two channels to one leaves matrix units and convolution libraries idle (7 times the cost of the whole plain network on
a CPU). As 54 shifted multiply-adds over planes that are small after pooling it is one pass of vector arithmetic.
"""

import itertools

import jax
import jax.numpy as jnp

from aia_jax.ops.apart import apart
from aia_jax.ops.banded import GROUP, banded_stencil
from aia_jax.shapes import Array, Float

_TAPS = tuple(itertools.product(range(3), repeat=3))


@jax.custom_vjp
def stencil(maximum: Float[Array, "b i j k"], mean: Float[Array, "b i j k"], kernel: Float[Array, "3 3 3 2"]) -> Float[Array, "b i j k"]:
    """Correlates the pair (maximum, mean) with one kernel; zeros beyond the edges (paper, Eqs. 5-8: `3DConv`).

    Args:
        maximum, mean: pooled planes of one dtype.
        kernel: its first three axes run along i, j and k, the last over (maximum, mean); of the planes' dtype.
    """
    return _correlate((_ringed(maximum), _ringed(mean)), kernel[..., None])[0]


def _ringed(plane: Array) -> Array:
    """With a ring of zeros: planes are small, and padded in memory no tap needs a bounds check."""
    return jax.lax.optimization_barrier(jnp.pad(plane, ((0, 0), (1, 1), (1, 1), (1, 1))))


@jax.jit  # traced once a shape, and one program rather than hundreds where a caller does not jit
def _correlate(ringed: tuple[Array, ...], kernels: Array) -> tuple[Array, ...]:
    """For each q the sum over planes p and taps of plane p, shifted, times kernels[..., p, q]."""

    def undefined(ringed: tuple[Array, ...], kernels: Array) -> tuple[Array, ...]:
        return (jnp.full_like(ringed[0][:, 2:, 2:, 2:], jnp.nan),) * kernels.shape[-1]

    # Batch statistics, the gate and gradients all read the sums. NaN weights make every sum NaN.
    return apart(kernels[0, 0, 0, 0, 0], _taps, undefined, ringed, kernels)


def _taps(ringed: tuple[Array, ...], kernels: Array) -> tuple[Array, ...]:
    i, j, k = (size - 2 for size in ringed[0].shape[1:])
    sums = [jnp.zeros((), ringed[0].dtype)] * kernels.shape[-1]
    for p, plane in enumerate(ringed):
        for a, b, c in _TAPS:
            shifted = plane[:, a : a + i, b : b + j, c : c + k]
            sums = [total + shifted * kernels[a, b, c, p, q] for q, total in enumerate(sums)]
    return tuple(sums)


def _forward(maximum: Array, mean: Array, kernel: Array) -> tuple[Array, tuple[Array, Array, Array]]:
    return _with_gradient_to_come(maximum, mean, kernel), (maximum, mean, kernel)


@jax.jit
def _with_gradient_to_come(maximum: Array, mean: Array, kernel: Array) -> Array:
    # On CPUs the taps of all units and of their gradients would be half of what a training step takes to compile. Planes of several groups
    # of rows (the large ones of frames pooled over T; all, where clips have more than eight frames) stay with their taps, which take a
    # third of the time of large ones.
    on_cpus = banded_stencil if maximum.shape[1] <= GROUP else stencil
    return jax.lax.platform_dependent(maximum, mean, kernel, cpu=on_cpus, default=stencil)


@jax.jit
def _backward(saved: tuple[Array, Array, Array], gradient: Array) -> tuple[Array, Array, Array]:
    def of_banded(gradient: Array, *operands: Array) -> tuple[Array, Array, Array]:
        return jax.vjp(banded_stencil, *operands)[1](gradient)

    return jax.lax.platform_dependent(gradient, *saved, cpu=of_banded, default=gradient_by_taps)


def gradient_by_taps(gradient: Array, maximum: Array, mean: Array, kernel: Array) -> tuple[Array, Array, Array]:
    """The gradient of maximum, mean and kernel from that of their correlation, for backends other than CPUs."""
    ringed = _ringed(gradient)
    of_maximum, of_mean = _correlate((ringed,), kernel[::-1, ::-1, ::-1, None])
    return of_maximum, of_mean, _kernel_gradient((_ringed(maximum), _ringed(mean)), ringed)


@jax.jit
def _kernel_gradient(planes: tuple[Array, ...], gradient: Array) -> Array:
    """Inner products of a ringed gradient with every shift of ringed planes, [3, 3, 3, planes].

    A loop over the two outer shifts; the inner one is a matrix product. Laid flat, a shift of a ringed plane is an offset. Clips stay apart
    until the loop has ended: on a mesh each device sums its own, and one sum over devices is all that moves.
    """
    clips, _, j, k = gradient.shape
    layer, row = j * k, k  # offsets of a step along i and along j
    first = layer + row + 1
    flat = gradient.reshape(clips, -1)  # zero wherever a shift would leave the plane
    length = flat.shape[1] - 2 * first
    shifted = jnp.stack([flat[:, first - c : first - c + length] for c in (-1, 0, 1)], 1)  # [b, 3, length]

    def inner_shifts(outer: Array) -> Array:
        offset = first + outer[0] * layer + outer[1] * row
        rows = [jax.lax.dynamic_slice_in_dim(plane.reshape(clips, -1), offset, length, 1) for plane in planes]
        return jnp.einsum("bcl,bpl->bcp", shifted, jnp.stack(rows, 1), precision="highest")  # [b, 3, p]

    outer_shifts = jnp.array(list(itertools.product((-1, 0, 1), repeat=2)))
    return jax.lax.map(inner_shifts, outer_shifts).sum(1).reshape(3, 3, 3, len(planes))


stencil.defvjp(_forward, _backward)
