"""Reductions with two results that XLA's CPU backend computes in one pass."""

import jax
import jax.numpy as jnp

from aia_jax.shapes import Array

_LANES = 8
_UNROLLED = 16


def maximum_and_sum(x: Array, axis: int) -> tuple[Array, Array]:
    """`x.max(axis)` and `x.sum(axis)` of float32 or float64.

    Two reductions read x twice. One reduction with two results runs element by element on a CPU, seven times slower, but where the reduced
    axis is so short that the compiler unrolls it, and is not the last: there it is vector arithmetic. So a long axis goes in short steps,
    and the last axis leaves as many of its elements as a vector holds to the end.

    Args:
        axis: not negative.
    """
    if axis < x.ndim - 1:
        return _in_steps((x, x), axis)
    if x.shape[axis] % _LANES:
        return x.max(axis), x.sum(axis)
    lanes = x.reshape(*x.shape[:-1], -1, _LANES)
    maximum, total = _in_steps((lanes, lanes), axis)
    return maximum.max(-1), total.sum(-1)


def _in_steps(pair: tuple[Array, Array], axis: int) -> tuple[Array, Array]:
    size = pair[0].shape[axis]
    if size <= _UNROLLED:
        return _reduced(pair, axis)
    step = max((n for n in range(4, _UNROLLED + 1) if size % n == 0), default=_LANES)
    whole = size - size % step

    def lines(x: Array) -> Array:
        body = jax.lax.slice_in_dim(x, 0, whole, axis=axis)
        return body.reshape(*x.shape[:axis], -1, step, *x.shape[axis + 1 :])

    maximum, total = _in_steps(_reduced((lines(pair[0]), lines(pair[1])), axis + 1), axis)
    if whole == size:
        return maximum, total
    rest = _reduced(tuple(jax.lax.slice_in_dim(x, whole, size, axis=axis) for x in pair), axis)
    return jnp.maximum(maximum, rest[0]), total + rest[1]


def _reduced(pair: tuple[Array, Array], axis: int) -> tuple[Array, Array]:
    dtype = pair[0].dtype
    start = jnp.array(-jnp.inf, dtype), jnp.array(0, dtype)
    return jax.lax.reduce(pair, start, lambda a, b: (jnp.maximum(a[0], b[0]), a[1] + b[1]), (axis,))
