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
    """Inner products of the gradient with every shifted plane, [3, 3, 3, planes]."""
    _, i, j, k = gradient.shape
    padded = jax.lax.optimization_barrier(tuple(jnp.pad(plane, ((0, 0), (1, 1), (1, 1), (1, 1))) for plane in planes))
    flat = gradient.reshape(-1)
    products = [[jnp.vdot(plane[:, a : a + i, b : b + j, c : c + k].reshape(-1), flat) for plane in padded] for a, b, c in _TAPS]
    return jnp.stack([jnp.stack(row) for row in products]).reshape(3, 3, 3, len(planes))


stencil.defvjp(_forward, _backward)
