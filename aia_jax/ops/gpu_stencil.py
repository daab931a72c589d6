"""The stencil and its gradient as one kernel each, for NVIDIA GPUs.

XLA reads padded copies of the planes and takes long to compile 54 taps. Here a program takes some positions of a layer [j, k] and walks
along i. What it loads of a row serves the three rows around, whose sums it carries from row to row.

A position is a number below j · k, so that no size need be a power of two. Each thread has one: with more, a thread's positions lie side by
side for some loads and apart for others, and results would move between threads in every row.
"""

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plt

from aia_jax.shapes import Array, Float

Plane = Float[Array, "b i j k"]
Kernel = Float[Array, "3 3 3 2"]
Ref = Any  # a whole flattened array in the GPU's memory
MultiplyAdd = Callable[[Array, Array, Array], Array]
Carried = tuple[list[list[Array]], list[list[Array]], list[Array]]  # rows of both planes, of their gradient; sums for the kernel

_PLANES = 2  # maximum and mean
_TAPS = tuple(itertools.product(range(3), range(3), range(3), range(_PLANES)))  # as they lie in memory
_INNER_SHIFTS = tuple(itertools.product((-1, 0, 1), repeat=2))
_WARP = 32


@functools.partial(jax.jit, static_argnames="interpret")
def correlate(maximum: Plane, mean: Plane, kernel: Kernel, *, interpret: bool = False) -> Plane:
    """What `stencil` computes, of float32.

    Args:
        interpret: runs on any backend, slowly.
    """
    return _correlated(maximum, mean, kernel, False, interpret)[0]


@functools.partial(jax.jit, static_argnames="interpret")
def correlate_and_sum(maximum: Plane, mean: Plane, kernel: Kernel, *, interpret: bool = False) -> tuple[Plane, Float[Array, "b n 2"]]:
    """The same, and n partial sums of a clip's response and of its squares; `sums_of_a_clip` says how many."""
    response, sums = _correlated(maximum, mean, kernel, True, interpret)
    return response, sums.reshape(*sums_of_a_clip(maximum.shape), 2)


def sums_of_a_clip(shape: tuple[int, ...]) -> tuple[int, int]:
    """Clips, and the partial sums of each that `correlate_and_sum` answers with."""
    _, blocks, rows = _correlate_programs(shape)
    return shape[0], blocks * pl.cdiv(shape[1], rows)


def _correlate_programs(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Threads of a program, programs of a layer, rows of a program."""
    batch, i, j, k = shape
    threads = max(_WARP, min(4 * _WARP, pl.next_power_of_2(j * k)))
    blocks = pl.cdiv(j * k, threads)
    return threads, blocks, _rows_of_a_program(i, batch * blocks, most=14, programs=500)


def _correlated(maximum: Plane, mean: Plane, kernel: Kernel, with_sums: bool, interpret: bool) -> list[Array]:
    batch, *shape = maximum.shape
    threads, blocks, rows = _correlate_programs(maximum.shape)
    sizes = [maximum.size] + [2 * math.prod(sums_of_a_clip(maximum.shape))] * with_sums
    response, *sums = pl.pallas_call(
        functools.partial(_correlate_kernel, shape=tuple(shape), threads=threads, rows=rows, multiply_add=_multiply_add(interpret)),
        grid=(blocks, pl.cdiv(shape[0], rows), batch),
        out_shape=[jax.ShapeDtypeStruct((size,), jnp.float32) for size in sizes],
        compiler_params=plt.CompilerParams(num_warps=threads // _WARP),
        interpret=interpret,
        name="stencil",
    )(maximum.reshape(-1), mean.reshape(-1), kernel.reshape(-1))
    return [response.reshape(maximum.shape), *sums]


@functools.partial(jax.jit, static_argnames="interpret")
def gradient(
    of_response: Plane, maximum: Plane, mean: Plane, kernel: Kernel, *, interpret: bool = False
) -> tuple[Plane, Plane, Float[Array, "b 3 3 3 2"]]:
    """The gradient of maximum, mean and, clip by clip, kernel from that of their correlation; of finite values.

    Args:
        interpret: runs on any backend, slowly.
    """
    batch, i, j, k = maximum.shape
    # One warp: it adds up its 54 sums without a barrier.
    blocks = pl.cdiv(j * k, _WARP)
    rows = _rows_of_a_program(i, batch * blocks, most=28, programs=1500)
    chunks = pl.cdiv(i, rows)
    plane = jax.ShapeDtypeStruct((maximum.size,), jnp.float32)
    of_maximum, of_mean, partial_sums = pl.pallas_call(
        functools.partial(_gradient_kernel, shape=(i, j, k), threads=_WARP, rows=rows, multiply_add=_multiply_add(interpret)),
        grid=(blocks, chunks, batch),
        out_shape=(plane, plane, jax.ShapeDtypeStruct((batch * chunks * blocks * len(_TAPS),), jnp.float32)),
        compiler_params=plt.CompilerParams(num_warps=1),
        interpret=interpret,
        name="stencil_gradient",
    )(of_response.reshape(-1), maximum.reshape(-1), mean.reshape(-1), kernel.reshape(-1))
    of_kernel = partial_sums.reshape(batch, -1, len(_TAPS)).sum(1).reshape(batch, *kernel.shape)
    return of_maximum.reshape(maximum.shape), of_mean.reshape(mean.shape), of_kernel


def _rows_of_a_program(i: int, programs_of_a_row: int, most: int, programs: int) -> int:
    """As many rows as it takes to share loads, but few enough to keep the GPU busy: rows of a program follow one another."""
    chunks = max(pl.cdiv(i, most), min(i, pl.cdiv(programs, programs_of_a_row)))
    return pl.cdiv(i, chunks)


def _correlate_kernel(
    maximum_ref: Ref,
    mean_ref: Ref,
    kernel_ref: Ref,
    response_ref: Ref,
    *sums_ref: Ref,
    shape: tuple[int, int, int],
    threads: int,
    rows: int,
    multiply_add: MultiplyAdd,
) -> None:
    i, layer = shape[0], shape[1] * shape[2]
    weights = _weights(kernel_ref, threads)
    position, inside, neighbours = _positions(shape, threads)
    first, end, clip = _extent(i, layer, rows)
    zeros = jnp.zeros(threads, jnp.float32)

    def add_row(row: Array, carried: tuple[Array, ...]) -> tuple[Array, ...]:
        around = [*carried[:2], zeros]  # rows row - 1, row and row + 1 of the response
        start = clip + row * layer
        values = [[_load(ref, start + shifted, mask) for shifted, mask in neighbours] for ref in (maximum_ref, mean_ref)]
        for a, b, c, p in _TAPS:
            around[2 - a] = multiply_add(values[p][3 * b + c], weights[a, b, c, p], around[2 - a])
        return around[1], around[2], *done(row - 1, around[0], row > first, carried[2:])

    def done(row: Array, values: Array, where: Array, sums: tuple[Array, ...]) -> tuple[Array, ...]:
        """Stores a row of the response, and adds it to the sums that are asked for."""
        plt.store(response_ref.at[clip + row * layer + position], values, mask=inside & where)
        counted = jnp.where(inside & where, values, 0.0)
        return (sums[0] + counted, sums[1] + counted * counted) if sums else ()

    # The row before the chunk and the one after it count too, where the clip has them.
    carried = (zeros, zeros) + (zeros, zeros) * len(sums_ref)
    last, _, *sums = jax.lax.fori_loop(jnp.maximum(first - 1, 0), jnp.minimum(end + 1, i), add_row, carried)
    sums = done(end - 1, last, end == i, tuple(sums))
    for n, total in enumerate(sums):
        plt.store(sums_ref[0].at[2 * _program() + n], total.sum())


def _gradient_kernel(
    of_response_ref: Ref,
    maximum_ref: Ref,
    mean_ref: Ref,
    kernel_ref: Ref,
    of_maximum_ref: Ref,
    of_mean_ref: Ref,
    partial_sums_ref: Ref,
    *,
    shape: tuple[int, int, int],
    threads: int,
    rows: int,
    multiply_add: MultiplyAdd,
) -> None:
    i, layer = shape[0], shape[1] * shape[2]
    weights = _weights(kernel_ref, threads)
    position, inside, neighbours = _positions(shape, threads)
    neighbours = neighbours[::-1]  # what a tap takes from the right comes back from the left
    first, end, clip = _extent(i, layer, rows)
    zeros = jnp.zeros(threads, jnp.float32)

    def own_row(row: Array) -> list[Array]:
        """Of both planes; other programs' rows are zero, so that each product counts once."""
        mask = inside & (row >= first) & (row < end)
        return [_load(ref, clip + row * layer + position, mask) for ref in (maximum_ref, mean_ref)]

    def store(row: Array, of_planes: Sequence[Array], where: Array) -> None:
        for ref, value in zip((of_maximum_ref, of_mean_ref), of_planes, strict=True):
            plt.store(ref.at[clip + row * layer + position], value, mask=inside & where)

    def add_row(row: Array, carried: Carried) -> Carried:
        planes, of_planes, of_weights = carried
        # Rows row - 1, row and row + 1 of the planes and of their gradient.
        planes = [*planes, own_row(row + 1)]
        of_planes = [*map(list, of_planes), [zeros, zeros]]
        of_weights = list(of_weights)
        values = [_load(of_response_ref, clip + row * layer + shifted, mask) for shifted, mask in neighbours]
        for n, (a, b, c, p) in enumerate(_TAPS):
            value = values[3 * b + c]
            of_planes[a][p] = multiply_add(value, weights[a, b, c, p], of_planes[a][p])
            of_weights[n] = multiply_add(value, planes[a][p], of_weights[n])
        store(row - 1, of_planes[0], row > first)
        return planes[1:], of_planes[1:], of_weights

    start = jnp.maximum(first - 1, 0)
    nothing = [zeros, zeros]
    carried = [nothing, own_row(start)], [nothing, nothing], [zeros] * len(_TAPS)
    _, of_planes, of_weights = jax.lax.fori_loop(start, jnp.minimum(end + 1, i), add_row, carried)
    store(end - 1, of_planes[0], end == i)
    for n, of_weight in enumerate(of_weights):
        plt.store(partial_sums_ref.at[_program() * len(_TAPS) + n], of_weight.sum())


def _program() -> Array:
    """This program's number; those of a clip follow one another."""
    return (pl.program_id(2) * pl.num_programs(1) + pl.program_id(1)) * pl.num_programs(0) + pl.program_id(0)


def _multiply_add(interpret: bool) -> MultiplyAdd:
    """a · b + c in one instruction: compiled for Triton, a product and a sum remain two, and these are most of the work."""
    if interpret:
        return lambda a, b, c: a * b + c

    def fused(a: Array, b: Array, c: Array) -> Array:
        result = jax.ShapeDtypeStruct(c.shape, c.dtype)
        return plt.elementwise_inline_asm(
            "fma.rn.f32 $0, $1, $2, $3;", args=(a, b, c), constraints="=f,f,f,f", pack=1, result_shape_dtypes=(result,)
        )[0]

    return fused


def _weights(kernel_ref: Ref, threads: int) -> dict[tuple[int, int, int, int], Array]:
    """By tap and plane, for all threads."""
    return {tap: jnp.broadcast_to(kernel_ref[n], threads) for n, tap in enumerate(_TAPS)}


def _positions(shape: tuple[int, int, int], threads: int) -> tuple[Array, Array, list[tuple[Array, Array]]]:
    """A program's positions in a layer, which of them there are, and the same of their nine neighbours, themselves among them."""
    _, j, k = shape
    position = pl.program_id(0) * threads + jnp.arange(threads, dtype=jnp.int32)
    inside = position < j * k
    at_j, at_k = jax.lax.div(position, k), jax.lax.rem(position, k)  # `//` would also round negative numbers
    neighbours = []
    for b, c in _INNER_SHIFTS:
        exists = (at_j + b >= 0) & (at_j + b < j) & (at_k + c >= 0) & (at_k + c < k)
        neighbours.append((position + (b * k + c), inside & exists))
    return position, inside, neighbours


def _extent(i: int, layer: int, rows: int) -> tuple[Array, Array, Array]:
    """A program's first row, the row after its last, and where its clip begins."""
    first = pl.program_id(1) * rows
    return first, jnp.minimum(first + rows, i), pl.program_id(2) * (i * layer)


def _load(ref: Ref, at: Array, mask: Array) -> Array:
    return plt.load(ref.at[at], mask=mask, other=0.0)
