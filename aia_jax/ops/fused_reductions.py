"""Reductions with several results that XLA's CPU backend computes in one pass."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from aia_jax.shapes import Array, Float

_LANES = 8
_UNROLLED = 16

Results = tuple[Array, ...]


class _Reduction(NamedTuple):
    """What several results start from, and how those of two parts become those of both."""

    start: tuple[float, ...]
    joined: Callable[[Results, Results], Results]


def maximum_and_sum(x: Float[Array, "..."], axis: int) -> tuple[Array, Array]:
    """`x.max(axis)` and `x.sum(axis)` of float32 or float64. JAX cannot differentiate it: its
    callers have gradients of their own.

    Two reductions read x twice. One reduction with two results runs element by element on a CPU,
    seven times slower, but where the reduced
    axis is so short that the compiler unrolls it: there it is vector arithmetic. So a long axis
    goes in short steps, and the last axis leaves as many of its elements as a vector holds to the
    end.

    Args:
        axis: not negative.
    """
    maximum, total = _in_one_pass((x, x), axis, _Reduction((-jnp.inf, 0), _joined))
    return jnp.where(jnp.isnan(total), total, maximum), total  # `_joined` passes over NaN


def maximum_sum_and_ties(x: Float[Array, "..."], axis: int) -> tuple[Array, Array, Array]:
    """As `maximum_and_sum`, and how many elements equal the maximum, in x's dtype; but only the sum
    says where NaN is.
    """
    return _in_one_pass((x, x, jnp.ones_like(x)), axis, _Reduction((-jnp.inf, 0, 0), _joined))


def sums(parts: Results, axis: int) -> Results:
    """`x.sum(axis)` of each of some arrays of one shape, axis not negative and not the last.
    Without a gradient, as `maximum_and_sum`.
    """
    return _in_steps(parts, axis, _sums_of(parts))


def sums_of_rows(*parts: Float[Array, "n ... k"]) -> Results:
    """The sums over all axes but the first of each of some arrays of one shape, [n]. Without a
    gradient, as `maximum_and_sum`.

    One short step in one pass, the rest, a tenth of them or so, by a reduction each.
    """
    rows, lanes = parts[0].shape[0], parts[0].shape[-1]
    lines = parts[0].size // (rows * lanes)
    step = max(n for n in range(1, _UNROLLED + 1) if lines % n == 0)
    reduced = _reduced(
        tuple(part.reshape(rows, -1, step, lanes) for part in parts), 2, _sums_of(parts)
    )
    return tuple(part.sum((1, 2)) for part in reduced)


def _sums_of(parts: Results) -> _Reduction:
    return _Reduction((0,) * len(parts), lambda a, b: tuple(map(jnp.add, a, b)))


def _in_one_pass(x: Results, axis: int, reduction: _Reduction) -> Results:
    shape = x[0].shape
    if axis < len(shape) - 1:
        return _in_steps(x, axis, reduction)
    if shape[axis] % _LANES:
        return _over_the_last_axis(x)
    lanes = _in_steps(tuple(part.reshape(*shape[:-1], -1, _LANES) for part in x), axis, reduction)
    return _reduced(lanes, axis, reduction)


def _over_the_last_axis(x: Results) -> Results:
    """By one reduction a result."""
    maximum = x[0].max(-1)
    ties = (jnp.where(x[0] == maximum[..., None], of, 0).sum(-1) for of in x[2:])
    return maximum, x[1].sum(-1), *ties


def _in_steps(x: Results, axis: int, reduction: _Reduction) -> Results:
    size = x[0].shape[axis]
    if size <= _UNROLLED:
        return _reduced(x, axis, reduction)
    step = max((n for n in range(4, _UNROLLED + 1) if size % n == 0), default=_LANES)
    whole = size - size % step

    def lines(part: Array) -> Array:
        body = jax.lax.slice_in_dim(part, 0, whole, axis=axis)
        return body.reshape(*part.shape[:axis], -1, step, *part.shape[axis + 1 :])

    results = _in_steps(
        _reduced(tuple(lines(part) for part in x), axis + 1, reduction), axis, reduction
    )
    if whole == size:
        return results
    rest = tuple(jax.lax.slice_in_dim(part, whole, size, axis=axis) for part in x)
    return reduction.joined(results, _reduced(rest, axis, reduction))


def _reduced(x: Results, axis: int, reduction: _Reduction) -> Results:
    start = tuple(jnp.array(value, x[0].dtype) for value in reduction.start)
    return jax.lax.reduce(x, start, reduction.joined, (axis,))


def _joined(a: Results, b: Results) -> Results:
    # One instruction, where `jnp.maximum` is four. It passes over NaN, which the sum does not.
    maximum = jnp.where(b[0] > a[0], b[0], a[0])
    ties = (
        jnp.where(a[0] == maximum, of_a, 0) + jnp.where(b[0] == maximum, of_b, 0)
        for of_a, of_b in zip(a[2:], b[2:], strict=True)
    )
    return maximum, a[1] + b[1], *ties
