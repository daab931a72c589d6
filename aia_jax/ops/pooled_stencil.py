"""The 3x3x3 convolution on a pooled pair, written as a stencil.

A convolution from two channels to one leaves matrix units and convolution libraries idle (7 times the cost of the whole plain network on
a CPU). As 54 shifted multiply-adds over planes that are small after pooling it is one pass of vector arithmetic.
"""

import itertools

import jax
import jax.numpy as jnp

from aia_jax.ops.apart import apart
from aia_jax.shapes import Array, Float

_TAPS = tuple(itertools.product(range(3), repeat=3))
_RING = ((0, 0), (1, 1), (1, 1), (1, 1))


@jax.custom_vjp
def stencil(
    maximum: Float[Array, "b i j k"], mean: Float[Array, "b i j k"], kernel: Float[Array, "3 3 3 2"]
) -> Float[Array, "b i j k"]:
    """Correlates the pair (maximum, mean) with one kernel; zeros beyond the edges (paper, Eqs. 5-8: `3DConv`).

    Args:
        maximum, mean: pooled planes of one dtype.
        kernel: its first three axes run along i, j and k, the last over (maximum, mean).
    """
    return _correlate((maximum, mean), kernel)


@jax.jit  # traced once a shape, and one program rather than hundreds where a caller does not jit
def _correlate(planes: tuple[Array, ...], kernel: Array) -> Array:
    """Sum over planes p and taps of plane p, shifted, times kernel[..., p]."""
    # Padded planes are small: with them in memory no tap needs a bounds check.
    padded = jax.lax.optimization_barrier(tuple(jnp.pad(plane, _RING) for plane in planes))
    # Batch statistics, the gate and gradients all read the sum. NaN weights make every sum NaN.
    return apart(kernel[0, 0, 0, 0], _taps, lambda planes, _: jnp.full_like(planes[0][:, 2:, 2:, 2:], jnp.nan), padded, kernel)


def _taps(padded: tuple[Array, ...], kernel: Array) -> Array:
    i, j, k = (size - 2 for size in padded[0].shape[1:])
    total = jnp.zeros((), padded[0].dtype)
    for p, plane in enumerate(padded):
        for a, b, c in _TAPS:
            total = total + plane[:, a : a + i, b : b + j, c : c + k] * kernel[a, b, c, p]
    return total


def _forward(maximum: Array, mean: Array, kernel: Array) -> tuple[Array, tuple[Array, Array, Array]]:
    return _correlate((maximum, mean), kernel), (maximum, mean, kernel)


def _backward(saved: tuple[Array, Array, Array], gradient: Array) -> tuple[Array, Array, Array]:
    maximum, mean, kernel = saved
    mirrored = kernel[::-1, ::-1, ::-1]
    of_maximum = _correlate((gradient,), mirrored[..., :1])
    of_mean = _correlate((gradient,), mirrored[..., 1:])
    return of_maximum, of_mean, _kernel_gradient((maximum, mean), gradient)


@jax.jit
def _kernel_gradient(planes: tuple[Array, ...], gradient: Array) -> Array:
    """Inner products of the gradient with every shifted plane, [3, 3, 3, planes].

    A loop over the two outer shifts; the inner one is a matrix product. Padded and laid flat, a shift of a plane is an offset.
    """
    _, _, j, k = gradient.shape
    row, layer = k + 2, (j + 2) * (k + 2)  # offsets of a step along j and along i
    flat = jnp.stack([jnp.pad(plane, _RING).reshape(-1) for plane in planes])  # [p, n]
    ringed = jnp.pad(gradient, _RING).reshape(-1)  # [n], zero wherever a shift would leave the plane
    first = layer + row + 1
    length = ringed.size - 2 * first
    shifted = jnp.stack([ringed[first - c : first - c + length] for c in (-1, 0, 1)])  # [3, length]

    def inner_shifts(outer: Array) -> Array:
        offset = first + outer[0] * layer + outer[1] * row
        rows = jax.lax.dynamic_slice(flat, (0, offset), (len(planes), length))
        return jax.lax.dot_general(rows, shifted, (((1,), (1,)), ((), ())), precision="highest")  # [p, 3]

    outer_shifts = jnp.array(list(itertools.product((-1, 0, 1), repeat=2)))
    products = jax.lax.map(inner_shifts, outer_shifts)  # [9, p, 3]
    return products.reshape(3, 3, len(planes), 3).transpose(0, 1, 3, 2)


stencil.defvjp(_forward, _backward)
