"""The stencil and its gradient as one kernel each, for NVIDIA GPUs.

XLA reads padded copies of the planes and takes long to compile 54 taps. Here a program takes some
positions of a layer [j, k] and walks along i. What it loads of a row serves the three rows around,
whose sums it carries from row to row.

Each thread has up to four lines of a column, so that the sums of neighbours share loads and
instructions about them; a column is a number below k times the groups of lines, so that no size
need be a power of two. For Triton each line is an array of its own, with one element a thread: with
more, a thread's positions lie side by side for some loads and apart for others, and results would
move between threads in every row.

Arithmetic is half of the instructions, so the kernels are fast when they never wait: all loads of a
row are issued before its arithmetic (`Positions.once_loaded` has ptxas do so), and the threads' own
columns of the next row with them; what neighbours need is then in L1.
"""

import functools
import itertools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from aia_jax.ops.triton.availability import triton as plt
from aia_jax.ops.triton.stencil_positions import TAPS, Lines, Positions, Ref, T, both
from aia_jax.shapes import Array, Float

Plane = Float[Array, "b i j k"]
Kernel = Float[Array, "3 3 3 2"]
MultiplyAdd = Callable[[Array, Array, Array], Array]
CorrelateCarried = tuple[
    list[Lines], list[Lines], list[Array]
]  # columns of the next row, rows of the response, sums
GradientCarried = tuple[
    Lines, list[list[Lines]], list[list[Lines]], list[Array]
]  # columns; rows of planes, of their gradient; sums

_PLANES = 2  # maximum and mean
_BY_COLUMN = sorted(
    TAPS, key=lambda tap: tap[2] != 1
)  # first those of what is there first, the threads' own columns
_WARP = 32


@functools.partial(jax.jit, static_argnames="interpret")
def correlate(maximum: Plane, mean: Plane, kernel: Kernel, *, interpret: bool = False) -> Plane:
    """What `stencil` computes, in float32 of planes of any dtype and a float32 kernel.

    Args:
        interpret: runs on any backend, slowly.
    """
    return _correlated(maximum, mean, kernel, False, interpret)[0]


@functools.partial(jax.jit, static_argnames="interpret")
def correlate_and_sum(
    maximum: Plane, mean: Plane, kernel: Kernel, *, interpret: bool = False
) -> tuple[Plane, Float[Array, "b n 2"]]:
    """The same, and n partial sums of a clip's response and of its squares; `sums_of_a_clip` says
    how many.
    """
    response, sums = _correlated(maximum, mean, kernel, True, interpret)
    return response, sums.reshape(*sums_of_a_clip(maximum.shape), 2)


def sums_of_a_clip(shape: tuple[int, ...]) -> tuple[int, int]:
    """Clips, and the partial sums of each that `correlate_and_sum` answers with."""
    programs = _correlate_programs(shape)
    return shape[0], programs.of_a_layer * programs.chunks


class _Programs(NamedTuple):
    """How the work on a plane is divided."""

    threads: int  # of a program
    lines: int  # of a thread, side by side along j
    rows: int  # of a program, one after the other along i
    of_a_layer: int
    chunks: int  # programs along i


def _correlate_programs(shape: tuple[int, ...]) -> _Programs:
    # An H100 has room for 2,112 warps of two lines (up to 128 registers), or 1,584 of four (up to
    # 168), which are to be several rounds.
    return _programs(shape, most_threads=4 * _WARP, most_rows=14, busy={4: 3000, 2: 1500, 1: 1500})


def _gradient_programs(shape: tuple[int, ...]) -> _Programs:
    # One warp: it adds up its 54 sums without a barrier. An H100 has room for 1,056 of four lines
    # (240 registers).
    return _programs(shape, most_threads=_WARP, most_rows=28, busy={4: 800, 2: 1200, 1: 1500})


def _programs(
    shape: tuple[int, ...], most_threads: int, most_rows: int, busy: dict[int, int]
) -> _Programs:
    """As many lines and rows as it takes to share loads, but few enough to keep the GPU busy: rows
    follow one another.

    Args:
        busy: by lines of a thread, how many warps do.
    """
    batch, i, j, k = shape
    for lines, warps in busy.items():
        columns = pl.cdiv(j, lines) * k
        threads = max(_WARP, min(most_threads, pl.next_power_of_2(columns)))
        of_a_layer = pl.cdiv(columns, threads)
        of_a_row = batch * of_a_layer * (threads // _WARP)
        if of_a_row * pl.cdiv(i, 14) >= warps:
            break
    rows = pl.cdiv(i, max(pl.cdiv(i, most_rows), min(i, pl.cdiv(warps, of_a_row))))
    return _Programs(threads, lines, rows, of_a_layer, pl.cdiv(i, rows))


def _correlated(
    maximum: Plane, mean: Plane, kernel: Kernel, with_sums: bool, interpret: bool
) -> list[Array]:
    batch, *shape = maximum.shape
    threads, lines, rows, of_a_layer, chunks = _correlate_programs(maximum.shape)
    sizes = [maximum.size] + [2 * batch * chunks * of_a_layer] * with_sums
    response, *sums = pl.pallas_call(
        functools.partial(
            _correlate_kernel,
            shape=tuple(shape),
            threads=threads,
            lines=lines,
            rows=rows,
            multiply_add=_multiply_add(interpret),
        ),
        grid=(of_a_layer, chunks, batch),
        out_shape=[jax.ShapeDtypeStruct((size,), jnp.float32) for size in sizes],
        compiler_params=plt.CompilerParams(num_warps=threads // _WARP),
        interpret=interpret,
        name="stencil",
    )(maximum.reshape(-1), mean.reshape(-1), kernel.reshape(-1), _read_rows(shape[0]))
    return [response.reshape(maximum.shape), *sums]


@functools.partial(jax.jit, static_argnames=("mean_share", "interpret"))
def gradient(
    of_response: Plane,
    maximum: Plane,
    mean: Plane,
    kernel: Kernel,
    ties: Plane | None = None,
    mean_share: float = 1.0,
    *,
    interpret: bool = False,
) -> tuple[Plane, Plane, Float[Array, "b 3 3 3 2"]]:
    """The gradient of maximum, mean and, clip by clip, kernel from that of their correlation; of
    finite values.

    Planes may be of any dtype; the gradient of both comes in maximum's, that of the kernel, itself
    float32, in float32.

    Args:
        ties: what the gradient of maximum is divided by.
        mean_share: what the gradient of mean is multiplied by.
        interpret: runs on any backend, slowly.
    """
    batch, *shape = maximum.shape
    threads, lines, rows, of_a_layer, chunks = _gradient_programs(maximum.shape)
    planes = [of_response, maximum, mean, kernel, _read_rows(shape[0])] + [ties] * (
        ties is not None
    )
    of_plane = jax.ShapeDtypeStruct((maximum.size,), maximum.dtype)
    of_maximum, of_mean, partial_sums = pl.pallas_call(
        functools.partial(
            _gradient_kernel,
            shape=tuple(shape),
            threads=threads,
            lines=lines,
            rows=rows,
            mean_share=mean_share,
            multiply_add=_multiply_add(interpret),
        ),
        grid=(of_a_layer, chunks, batch),
        out_shape=(
            of_plane,
            of_plane,
            jax.ShapeDtypeStruct((batch * chunks * of_a_layer * len(TAPS),), jnp.float32),
        ),
        compiler_params=plt.CompilerParams(num_warps=threads // _WARP),
        interpret=interpret,
        name="stencil_gradient",
    )(*(plane.reshape(-1) for plane in planes))
    of_kernel = partial_sums.reshape(batch, -1, len(TAPS)).sum(1).reshape(batch, *kernel.shape)
    return of_maximum.reshape(maximum.shape), of_mean.reshape(mean.shape), of_kernel


def _read_rows(i: int) -> Array:
    """i, for kernels to read rather than know, see `Positions`; of one element, as XLA makes no
    kernel for it.
    """
    return jnp.full(1, i, jnp.int32)


def _correlate_kernel(
    maximum_ref: Ref,
    mean_ref: Ref,
    kernel_ref: Ref,
    rows_ref: Ref,
    response_ref: Ref,
    *sums_ref: Ref,
    shape: tuple[int, int, int],
    threads: int,
    lines: int,
    rows: int,
    multiply_add: MultiplyAdd,
) -> None:
    at = Positions(shape, threads, lines, rows, rows_ref)
    weights = at.weights(kernel_ref, 1)
    zeros = jnp.zeros(threads, jnp.float32)
    refs = maximum_ref, mean_ref

    def own_columns(row: Array) -> list[list[Array]]:
        return [at.own_columns(ref, row) for ref in refs]

    def add_row(row: Array, carried: CorrelateCarried) -> CorrelateCarried:
        ahead, around, sums = carried
        # Rows row - 1, row and row + 1 of the response.
        around = [*around, [zeros] * lines]
        values = [at.with_neighbours(ref, row, own) for ref, own in zip(refs, ahead, strict=True)]
        ahead = own_columns(jnp.minimum(row + 1, at.rows - 1))

        def with_products() -> list[Lines]:
            sums = [list(row) for row in around]
            for (a, b, c, p), line in itertools.product(_BY_COLUMN, range(lines)):
                value = values[p][line + b][c].astype(jnp.float32)
                sums[2 - a][line] = multiply_add(value, weights[a, b, c, p], sums[2 - a][line])
            return sums

        around = at.once_loaded(row, with_products, around)
        return _as_float32(ahead), around[1:], done(row - 1, around[0], row > at.first, sums)

    def done(row: Array, values: list[Array], where: Array, sums: list[Array]) -> list[Array]:
        """Stores a row of the response, and adds it to the sums that are asked for."""
        sums = list(sums)
        for line, value in enumerate(values):
            at.store(response_ref, row, line, value, where)
            if sums:
                counted = jnp.where(both(at.exists[line], where), value, 0.0)
                sums = [sums[0] + counted, multiply_add(counted, counted, sums[1])]
        return sums

    # The row before the chunk and the one after it count too, where the clip has them.
    carried = (
        _as_float32(own_columns(at.start)),
        [[zeros] * lines] * 2,
        [zeros] * (2 * len(sums_ref)),
    )
    _, around, sums = jax.lax.fori_loop(at.start, at.stop, add_row, carried)
    sums = done(at.end - 1, around[0], at.end == shape[0], sums)
    for n, total in enumerate(sums):
        plt.store(sums_ref[0].at[2 * _program() + n], total.sum())


def _gradient_kernel(
    *refs: Ref,
    shape: tuple[int, int, int],
    threads: int,
    lines: int,
    rows: int,
    mean_share: float,
    multiply_add: MultiplyAdd,
) -> None:
    (
        of_response_ref,
        maximum_ref,
        mean_ref,
        kernel_ref,
        rows_ref,
        *ties_ref,
        of_maximum_ref,
        of_mean_ref,
        partial_sums_ref,
    ) = refs
    at = Positions(shape, threads, lines, rows, rows_ref)
    weights = at.weights(kernel_ref, -1)  # what a tap takes from the right comes back from the left
    zeros = jnp.zeros(threads, jnp.float32)

    def own_row(row: Array) -> list[list[Array]]:
        """Of both planes; other programs' rows are zero, so that each product counts once."""
        ours = (row >= at.first) & (row < at.end)
        return [
            [at.load(ref, row, line, 0, ours) for line in range(lines)]
            for ref in (maximum_ref, mean_ref)
        ]

    def shares(row: Array, where: Array) -> list[Array]:
        """What the gradient of maximum is divided by, if by anything."""
        return [
            at.load(ref, row, line, 0, where, other=1.0)
            for ref in ties_ref
            for line in range(lines)
        ]

    def store(row: Array, of_planes: list[Lines], ties: list[Array], where: Array) -> None:
        for line, (of_maximum, of_mean) in enumerate(zip(*of_planes, strict=True)):
            if ties:
                of_maximum = of_maximum / ties[line].astype(jnp.float32)
            if mean_share != 1.0:
                of_mean = of_mean * mean_share
            at.store(of_maximum_ref, row, line, of_maximum, where)
            at.store(of_mean_ref, row, line, of_mean, where)

    def add_row(row: Array, carried: GradientCarried) -> GradientCarried:
        ahead, planes, of_planes, of_weights = carried
        # Rows row - 1, row, row + 1 (and the one ahead) of the planes, and of their gradient.
        planes = [*planes, own_row(row + 2)]
        ties = shares(row - 1, row > at.first)
        of_planes = [*of_planes, [[zeros] * lines] * _PLANES]
        values = at.with_neighbours(of_response_ref, row, ahead)
        ahead = at.own_columns(of_response_ref, jnp.minimum(row + 1, at.rows - 1))

        def with_products() -> tuple[list[list[Lines]], list[Array]]:
            plane_sums = [[list(plane) for plane in row] for row in of_planes]
            weight_sums = list(of_weights)
            for (a, b, c, p), line in itertools.product(_BY_COLUMN, range(lines)):
                n = TAPS.index((a, b, c, p))
                value = values[line + 2 - b][2 - c].astype(jnp.float32)
                plane_sums[a][p][line] = multiply_add(
                    value, weights[a, b, c, p], plane_sums[a][p][line]
                )
                weight_sums[n] = multiply_add(
                    value, planes[a][p][line].astype(jnp.float32), weight_sums[n]
                )
            return plane_sums, weight_sums

        of_planes, of_weights = at.once_loaded(row, with_products, (of_planes, of_weights))
        store(row - 1, of_planes[0], ties, row > at.first)
        return *_as_float32((ahead, planes[1:])), of_planes[1:], of_weights

    nothing = [[zeros] * lines] * _PLANES
    rows_of_planes = [nothing, own_row(at.start), own_row(at.start + 1)]
    carried = (
        *_as_float32((at.own_columns(of_response_ref, at.start), rows_of_planes)),
        [nothing, nothing],
        [zeros] * len(TAPS),
    )
    _, _, of_planes, of_weights = jax.lax.fori_loop(at.start, at.stop, add_row, carried)
    last, where = at.end - 1, at.end == shape[0]
    store(last, of_planes[0], shares(last, where), where)
    for n, ((_, _, c, _), of_weight) in enumerate(zip(TAPS, of_weights, strict=True)):
        of_weight = of_weight if c == 1 else jnp.where(at.columns[1 - c], of_weight, 0.0)
        plt.store(partial_sums_ref.at[_program() * len(TAPS) + n], of_weight.sum())


def _as_float32(values: T) -> T:
    """Of arrays carried from row to row, last: it waits for them."""
    return jax.tree.map(lambda value: value.astype(jnp.float32), values)


def _program() -> Array:
    """This program's number; those of a clip follow one another."""
    return (pl.program_id(2) * pl.num_programs(1) + pl.program_id(1)) * pl.num_programs(
        0
    ) + pl.program_id(0)


def _multiply_add(interpret: bool) -> MultiplyAdd:
    """a · b + c in one instruction: compiled for Triton, a product and a sum remain two, and these
    are most of the work.
    """
    if interpret:
        return lambda a, b, c: a * b + c

    def fused(a: Array, b: Array, c: Array) -> Array:
        result = jax.ShapeDtypeStruct(c.shape, c.dtype)
        return plt.elementwise_inline_asm(
            "fma.rn.f32 $0, $1, $2, $3;",
            args=(a, b, c),
            constraints="=f,f,f,f",
            pack=1,
            result_shape_dtypes=(result,),
        )[0]

    return fused
