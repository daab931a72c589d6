"""Reductions with several results that XLA's CPU backend computes in one pass over their operands.

None of them can be differentiated by JAX: their callers define gradients of their own.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from aia_jax.shapes import Array, Float

_LANES = 8  # float32 numbers in a vector register
_MAX_UNROLLED = 16  # the longest axis that XLA unrolls into vector arithmetic

Arrays = tuple[Array, ...]


class _Reduction(NamedTuple):
    """A reduction of several arrays at once.

    Attributes:
        initial: the value that each result starts from.
        combine: makes the results of a whole from the results of its two halves.
    """

    initial: tuple[float, ...]
    combine: Callable[[Arrays, Arrays], Arrays]


def maximum_and_sum(x: Float[Array, "..."], axis: int) -> tuple[Array, Array]:
    """Computes `x.max(axis)` and `x.sum(axis)` in one pass over x.

    Two reductions read x twice. One reduction with two results runs element by element on a CPU,
    seven times slower, unless its axis is so short that the compiler unrolls it: then it is vector
    arithmetic. So a long axis is reduced in short steps. The last axis is reduced to `_LANES`
    elements first, a vector that is reduced at the end (docs/experiments.md, "Pools: maximum and
    mean in one variadic reduction").

    Args:
        x: float32 or float64.
        axis: not negative.
    """
    maximum, total = _reduce_axis((x, x), axis, _Reduction((-jnp.inf, 0), _combine))
    # `_combine` passes over a NaN in the maximum; the sum is NaN wherever x holds one.
    return jnp.where(jnp.isnan(total), total, maximum), total


def maximum_sum_and_ties(x: Float[Array, "..."], axis: int) -> tuple[Array, Array, Array]:
    """Computes maximum, sum and the number of elements that equal the maximum in one pass over x.

    All three have x's dtype. Where x holds NaN only the sum is NaN.

    Args:
        x: float32 or float64.
        axis: not negative.
    """
    reduction = _Reduction((-jnp.inf, 0, 0), _combine)
    return _reduce_axis((x, x, jnp.ones_like(x)), axis, reduction)


def sum_each(arrays: Arrays, axis: int) -> Arrays:
    """Computes `x.sum(axis)` of each of several arrays of one shape in one pass.

    Args:
        arrays: float32 or float64.
        axis: neither negative nor the last.
    """
    return _reduce_in_steps(arrays, axis, _sum_reduction(len(arrays)))


def sum_rows(*arrays: Float[Array, "n ... k"]) -> Arrays:
    """Sums each of several arrays of one shape over all axes but the first: [n] each.

    A first step of up to `_MAX_UNROLLED` lines reduces all arrays in one pass. About a tenth of the
    elements is left, and takes one reduction an array.
    """
    rows, lanes = arrays[0].shape[0], arrays[0].shape[-1]
    lines = arrays[0].size // (rows * lanes)
    step = max(n for n in range(1, _MAX_UNROLLED + 1) if lines % n == 0)
    in_steps = tuple(array.reshape(rows, -1, step, lanes) for array in arrays)
    reduced = _reduce(in_steps, 2, _sum_reduction(len(arrays)))
    return tuple(array.sum((1, 2)) for array in reduced)


def _sum_reduction(count: int) -> _Reduction:
    return _Reduction((0,) * count, lambda a, b: tuple(map(jnp.add, a, b)))


def _reduce_axis(arrays: Arrays, axis: int, reduction: _Reduction) -> Arrays:
    shape = arrays[0].shape
    if axis < len(shape) - 1:
        return _reduce_in_steps(arrays, axis, reduction)
    if shape[axis] % _LANES:
        return _reduce_last_axis_separately(arrays)
    in_lanes = tuple(array.reshape(*shape[:-1], -1, _LANES) for array in arrays)
    return _reduce(_reduce_in_steps(in_lanes, axis, reduction), axis, reduction)


def _reduce_last_axis_separately(arrays: Arrays) -> Arrays:
    """Reduces the last axis to maximum, sum and ties (if asked for) with one reduction each."""
    maximum = arrays[0].max(-1)
    is_maximum = arrays[0] == maximum[..., None]
    ties = (jnp.where(is_maximum, counts, 0).sum(-1) for counts in arrays[2:])
    return maximum, arrays[1].sum(-1), *ties


def _reduce_in_steps(arrays: Arrays, axis: int, reduction: _Reduction) -> Arrays:
    """Reduces an axis step by step, each step short enough to be unrolled."""
    size = arrays[0].shape[axis]
    if size <= _MAX_UNROLLED:
        return _reduce(arrays, axis, reduction)
    step = max((n for n in range(4, _MAX_UNROLLED + 1) if size % n == 0), default=_LANES)
    whole = size - size % step

    def split_into_steps(array: Array) -> Array:
        body = jax.lax.slice_in_dim(array, 0, whole, axis=axis)
        return body.reshape(*array.shape[:axis], -1, step, *array.shape[axis + 1 :])

    first = _reduce(tuple(map(split_into_steps, arrays)), axis + 1, reduction)
    results = _reduce_in_steps(first, axis, reduction)
    if whole == size:
        return results
    rest = tuple(jax.lax.slice_in_dim(array, whole, size, axis=axis) for array in arrays)
    return reduction.combine(results, _reduce(rest, axis, reduction))


def _reduce(arrays: Arrays, axis: int, reduction: _Reduction) -> Arrays:
    initial = tuple(jnp.array(value, arrays[0].dtype) for value in reduction.initial)
    return jax.lax.reduce(arrays, initial, reduction.combine, (axis,))


def _combine(a: Arrays, b: Arrays) -> Arrays:
    """Combines (maximum, sum) or (maximum, sum, ties) of two halves."""
    # A comparison and a choice are one instruction; `jnp.maximum` is four, because it propagates a
    # NaN. Here the sum propagates it.
    maximum = jnp.where(b[0] > a[0], b[0], a[0])
    ties = (
        jnp.where(a[0] == maximum, a_ties, 0) + jnp.where(b[0] == maximum, b_ties, 0)
        for a_ties, b_ties in zip(a[2:], b[2:], strict=True)
    )
    return maximum, a[1] + b[1], *ties
