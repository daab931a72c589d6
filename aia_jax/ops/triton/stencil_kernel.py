"""The stencil as one Pallas kernel, with the sums that batch normalisation needs.

XLA for GPUs would read padded copies of the planes, and it takes long to compile 54 taps. Here a
program takes some positions of a row [j, k] and walks along i. What it loads of one row serves
three rows of the response, whose sums it carries from row to row.

A thread has up to four lines of one column (`stencil_grid.py`). Their sums share loads, and the
instructions that compute addresses. Threads are numbered by columns, so no size has to be a power
of two. Each line is an array of its own with one element per thread. In an array with several
elements per thread Triton would lay them out side by side for some loads and far apart for others,
and exchange the results between threads in every row.

Half of the instructions are arithmetic, so the kernel is fast if it never waits for memory. All
loads of a row are issued before its arithmetic (`Positions.after_all_loads`), and with them those
of the threads' own columns of the next row; after that the neighbours of these columns are in the
first-level cache.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from aia_jax.ops.triton.availability import triton
from aia_jax.ops.triton.stencil_grid import (
    TAPS_OWN_COLUMN_FIRST,
    WARP,
    Lines,
    Positions,
    Ref,
    as_float32,
    both,
    divide_for_stencil,
    multiply_add,
    num_rows_operand,
    program_number,
)
from aia_jax.shapes import Array, Float

Plane = Float[Array, "b i j k"]

# In this order: each thread's own column of the next row, of both planes; rows row - 1 and row of
# the response; sums of the response and of its square, or none.
Carried = tuple[list[Lines], list[Lines], list[Array]]


def stencil_kernel(
    maximum: Plane, mean: Plane, kernel: Float[Array, "3 3 3 2"], with_sums: bool
) -> tuple[Array, ...]:
    """Correlates the pair (maximum, mean) with one kernel; beyond the edges planes are zero.

    Args:
        maximum, mean: floats of at most 32 bits.
        kernel: float32.
        with_sums: whether sums are returned, too.

    Returns:
        The response [b, i, j, k], float32; and partial sums [b, n, 2] of it and of its square.
    """
    batch, *shape = maximum.shape
    division = divide_for_stencil(maximum.shape)
    num_sums = 2 * batch * division.chunks * division.programs_per_row
    response, *sums = pl.pallas_call(
        functools.partial(
            _kernel,
            shape=tuple(shape),
            threads=division.threads,
            lines=division.lines,
            rows=division.rows,
        ),
        grid=(division.programs_per_row, division.chunks, batch),
        out_shape=[
            jax.ShapeDtypeStruct((size,), jnp.float32)
            for size in [maximum.size] + [num_sums] * with_sums
        ],
        compiler_params=triton.CompilerParams(num_warps=division.threads // WARP),
        name="stencil",
    )(maximum.reshape(-1), mean.reshape(-1), kernel.reshape(-1), num_rows_operand(shape[0]))
    return response.reshape(maximum.shape), *(each.reshape(batch, -1, 2) for each in sums)


def _kernel(
    maximum_ref: Ref,
    mean_ref: Ref,
    kernel_ref: Ref,
    num_rows_ref: Ref,
    response_ref: Ref,
    *sums_ref: Ref,
    shape: tuple[int, int, int],
    threads: int,
    lines: int,
    rows: int,
) -> None:
    positions = Positions(shape, threads, lines, rows, num_rows_ref)
    weights = positions.load_weights(kernel_ref, 1)
    zeros = jnp.zeros(threads, jnp.float32)
    plane_refs = maximum_ref, mean_ref

    def load_own_columns(row: Array) -> list[Lines]:
        return [positions.load_own_columns(ref, row) for ref in plane_refs]

    def add_row(row: Array, carried: Carried) -> Carried:
        own_columns, response_rows, sums = carried
        response_rows = [*response_rows, [zeros] * lines]  # row - 1, row and row + 1
        values = [
            positions.add_neighbours(ref, row, own)
            for ref, own in zip(plane_refs, own_columns, strict=True)
        ]
        own_columns = load_own_columns(jnp.minimum(row + 1, positions.num_rows - 1))

        def add_products() -> list[Lines]:
            # This row of the planes is the one after (a = 2) for the response's row - 1.
            result = [list(response_row) for response_row in response_rows]
            for (a, b, c, p), line in itertools.product(TAPS_OWN_COLUMN_FIRST, range(lines)):
                value = values[p][line + b][c].astype(jnp.float32)
                result[2 - a][line] = multiply_add(value, weights[a, b, c, p], result[2 - a][line])
            return result

        response_rows = positions.after_all_loads(row, add_products, response_rows)
        return (
            as_float32(own_columns),
            response_rows[1:],
            store_row(row - 1, response_rows[0], row > positions.first_row, sums),
        )

    def store_row(row: Array, response: Lines, condition: Array, sums: list[Array]) -> list[Array]:
        """Stores a row of the response and returns the sums with it, if sums are wanted."""
        sums = list(sums)
        for line, value in enumerate(response):
            positions.store(response_ref, row, line, value, condition)
            if sums:
                value = jnp.where(both(positions.line_exists[line], condition), value, 0.0)
                sums = [sums[0] + value, multiply_add(value, value, sums[1])]
        return sums

    # The loop also reads the rows before and after the program's own, where the clip has them.
    carried = (
        as_float32(load_own_columns(positions.first_read)),
        [[zeros] * lines] * 2,
        [zeros] * (2 * len(sums_ref)),
    )
    _, response_rows, sums = jax.lax.fori_loop(
        positions.first_read, positions.end_read, add_row, carried
    )
    # The clip's last row has no row after it, so the loop did not store it.
    last, is_last = positions.end_row - 1, positions.end_row == shape[0]
    sums = store_row(last, response_rows[0], is_last, sums)
    for n, each in enumerate(sums):
        triton.store(sums_ref[0].at[2 * program_number() + n], each.sum())
