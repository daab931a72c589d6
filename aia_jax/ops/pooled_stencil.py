"""The 3x3x3 convolution on a pooled pair, written as a stencil.

A convolution from two channels to one leaves matrix units and convolution libraries idle (7 times the cost of the whole plain network on
a CPU). As 54 shifted multiply-adds over planes that are small after pooling it is one pass of vector arithmetic.
"""

import itertools

import jax
import jax.numpy as jnp

from aia_jax.shapes import Array, Float

_TAPS = tuple(itertools.product(range(3), repeat=3))


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
    _, i, j, k = planes[0].shape
    # Padded planes are small: with them in memory no tap needs a bounds check.
    padded = jax.lax.optimization_barrier(tuple(jnp.pad(plane, ((0, 0), (1, 1), (1, 1), (1, 1))) for plane in planes))
    total = None
    for p, plane in enumerate(padded):
        for a, b, c in _TAPS:
            term = plane[:, a : a + i, b : b + j, c : c + k] * kernel[a, b, c, p]
            total = term if total is None else total + term
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

    A loop over the two outer shifts with the inner one written out: 54 separate reductions take three times as long to compile and, over
    planes larger than a cache, eight times as long to run.
    """
    _, i, j, k = gradient.shape
    padded = jnp.stack([jnp.pad(plane, ((0, 0), (1, 1), (1, 1), (1, 1))) for plane in planes])  # [p, b, i + 2, j + 2, k + 2]
    padded, flat = jax.lax.optimization_barrier((padded, gradient.reshape(-1, k)))

    def inner_shifts(outer: Array) -> Array:
        rows = jax.lax.dynamic_slice(padded, (0, 0, *outer, 0), (*padded.shape[:2], i, j, k + 2)).reshape(len(planes), -1, k + 2)
        return jnp.stack([(rows[..., c : c + k] * flat).sum((1, 2)) for c in range(3)])  # [3, p]

    outer_shifts = jnp.array(list(itertools.product(range(3), repeat=2)))
    return jax.lax.map(inner_shifts, outer_shifts).reshape(3, 3, 3, len(planes))


stencil.defvjp(_forward, _backward)
