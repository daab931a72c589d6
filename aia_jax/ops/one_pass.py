"""Reductions with several results that XLA's CPU backend computes in one pass."""

import jax
import jax.numpy as jnp

from aia_jax.shapes import Array, Float

_LANES = 8
_UNROLLED = 16

Results = tuple[Array, ...]  # maximum and sum, or these and the number of elements that equal the maximum


def maximum_and_sum(x: Float[Array, "..."], axis: int) -> tuple[Array, Array]:
    """`x.max(axis)` and `x.sum(axis)` of float32 or float64. JAX cannot differentiate it: its callers have gradients of their own.

    Two reductions read x twice. One reduction with two results runs element by element on a CPU, seven times slower, but where the reduced
    axis is so short that the compiler unrolls it, and is not the last: there it is vector arithmetic. So a long axis goes in short steps,
    and the last axis leaves as many of its elements as a vector holds to the end.

    Args:
        axis: not negative.
    """
    return _in_one_pass((x, x), axis)


def maximum_sum_and_ties(x: Float[Array, "..."], axis: int) -> tuple[Array, Array, Array]:
    """As `maximum_and_sum`, and how many elements equal the maximum, in x's dtype (none where it is NaN)."""
    return _in_one_pass((x, x, jnp.ones_like(x)), axis)


def _in_one_pass(x: Results, axis: int) -> Results:
    shape = x[0].shape
    if axis < len(shape) - 1:
        return _in_steps(x, axis)
    if shape[axis] % _LANES:
        return _over_the_last_axis(x)
    return _reduced(_in_steps(tuple(part.reshape(*shape[:-1], -1, _LANES) for part in x), axis), axis)


def _over_the_last_axis(x: Results) -> Results:
    """By one reduction a result."""
    maximum = x[0].max(-1)
    ties = (jnp.where(x[0] == maximum[..., None], of, 0).sum(-1) for of in x[2:])
    return maximum, x[1].sum(-1), *ties


def _in_steps(x: Results, axis: int) -> Results:
    size = x[0].shape[axis]
    if size <= _UNROLLED:
        return _reduced(x, axis)
    step = max((n for n in range(4, _UNROLLED + 1) if size % n == 0), default=_LANES)
    whole = size - size % step

    def lines(part: Array) -> Array:
        body = jax.lax.slice_in_dim(part, 0, whole, axis=axis)
        return body.reshape(*part.shape[:axis], -1, step, *part.shape[axis + 1 :])

    results = _in_steps(_reduced(tuple(lines(part) for part in x), axis + 1), axis)
    if whole == size:
        return results
    return _joined(results, _reduced(tuple(jax.lax.slice_in_dim(part, whole, size, axis=axis) for part in x), axis))


def _reduced(x: Results, axis: int) -> Results:
    start = tuple(jnp.array(value, x[0].dtype) for value in (-jnp.inf, 0, 0)[: len(x)])
    return jax.lax.reduce(x, start, _joined, (axis,))


def _joined(a: Results, b: Results) -> Results:
    maximum = jnp.where(b[0] > a[0], b[0], a[0])
    ties = (jnp.where(a[0] == maximum, of_a, 0) + jnp.where(b[0] == maximum, of_b, 0) for of_a, of_b in zip(a[2:], b[2:], strict=True))
    return maximum, a[1] + b[1], *ties
