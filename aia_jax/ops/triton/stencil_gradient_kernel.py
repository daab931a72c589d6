"""The stencil's gradients, of both planes and of the kernel, as one Pallas kernel.

Programs walk along i as those of `stencil_kernel.py` do. What a program loads of a row of dresponse
serves three rows of both planes' gradients, whose sums it carries from row to row. It also serves
the kernel's gradient: 54 sums that stay in registers until the end.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from aia_jax.ops.triton.availability import triton
from aia_jax.ops.triton.stencil_grid import (
    TAPS,
    TAPS_OWN_COLUMN_FIRST,
    WARP,
    Lines,
    Positions,
    Ref,
    as_float32,
    divide_for_gradient,
    multiply_add,
    num_rows_operand,
    program_number,
)
from aia_jax.shapes import Array, Float

Plane = Float[Array, "b i j k"]
PairRow = list[Lines]  # one row of maximum and of mean, or of their gradients

# In this order: each thread's own column of dresponse in the next row; rows row - 1, row and
# row + 1 of the pair; rows row - 1 and row of its gradient; 54 sums for the kernel's gradient.
Carried = tuple[Lines, list[PairRow], list[PairRow], list[Array]]


def stencil_gradient_kernel(
    dresponse: Plane,
    maximum: Plane,
    mean: Plane,
    kernel: Float[Array, "3 3 3 2"],
    ties: Plane | None,
    mean_factor: float,
) -> tuple[Plane, Plane, Float[Array, "b 3 3 3 2"]]:
    """Computes the gradients of a stencil's operands from `dresponse`, all of finite values.

    Args:
        dresponse, maximum, mean: floats of at most 32 bits.
        kernel: float32.
        ties: what dmaximum is divided by; None: nothing.
        mean_factor: what dmean is multiplied by.

    Returns:
        dmaximum and dmean in maximum's dtype, and dkernel of each clip in float32.
    """
    batch, *shape = maximum.shape
    division = divide_for_gradient(maximum.shape)
    num_programs = batch * division.chunks * division.programs_per_row
    operands = [dresponse, maximum, mean, kernel, num_rows_operand(shape[0])]
    if ties is not None:
        operands.append(ties)
    dplane = jax.ShapeDtypeStruct((maximum.size,), maximum.dtype)
    dmaximum, dmean, partial_sums = pl.pallas_call(
        functools.partial(
            _kernel,
            shape=tuple(shape),
            threads=division.threads,
            lines=division.lines,
            rows=division.rows,
            mean_factor=mean_factor,
        ),
        grid=(division.programs_per_row, division.chunks, batch),
        out_shape=(
            dplane,
            dplane,
            jax.ShapeDtypeStruct((num_programs * len(TAPS),), jnp.float32),
        ),
        compiler_params=triton.CompilerParams(num_warps=division.threads // WARP),
        name="stencil_gradient",
    )(*(operand.reshape(-1) for operand in operands))
    dkernel = partial_sums.reshape(batch, -1, len(TAPS)).sum(1).reshape(batch, *kernel.shape)
    return dmaximum.reshape(maximum.shape), dmean.reshape(mean.shape), dkernel


def _kernel(
    *refs: Ref,
    shape: tuple[int, int, int],
    threads: int,
    lines: int,
    rows: int,
    mean_factor: float,
) -> None:
    (
        dresponse_ref,
        maximum_ref,
        mean_ref,
        kernel_ref,
        num_rows_ref,
        *ties_ref,
        dmaximum_ref,
        dmean_ref,
        partial_sums_ref,
    ) = refs
    positions = Positions(shape, threads, lines, rows, num_rows_ref)
    weights = positions.load_weights(kernel_ref, -1)  # shifts are reversed in the gradient
    zeros = jnp.zeros(threads, jnp.float32)

    def load_pair(row: Array) -> PairRow:
        """Loads a row of both planes; gives zeros for a row of another program.

        This way each product for the kernel's gradient is added up in one program only.
        """
        is_own = (row >= positions.first_row) & (row < positions.end_row)
        return [
            [positions.load(ref, row, line, 0, is_own) for line in range(lines)]
            for ref in (maximum_ref, mean_ref)
        ]

    def load_ties(row: Array, condition: Array) -> list[Array]:
        """Loads a row of ties, for each line; nothing if there are none."""
        return [
            positions.load(ref, row, line, 0, condition, other=1.0)
            for ref in ties_ref
            for line in range(lines)
        ]

    def store_row(row: Array, dpair: PairRow, ties: list[Array], condition: Array) -> None:
        for line, (dmaximum, dmean) in enumerate(zip(*dpair, strict=True)):
            if ties:
                dmaximum = dmaximum / ties[line].astype(jnp.float32)
            if mean_factor != 1.0:
                dmean = dmean * mean_factor
            positions.store(dmaximum_ref, row, line, dmaximum, condition)
            positions.store(dmean_ref, row, line, dmean, condition)

    def add_row(row: Array, carried: Carried) -> Carried:
        own_columns, pair_rows, dpair_rows, dweights = carried
        pair_rows = [*pair_rows, load_pair(row + 2)]  # row - 1, …, row + 2
        ties = load_ties(row - 1, row > positions.first_row)
        dpair_rows = [*dpair_rows, [[zeros] * lines] * 2]  # row - 1, row and row + 1
        values = positions.add_neighbours(dresponse_ref, row, own_columns)
        next_row = jnp.minimum(row + 1, positions.num_rows - 1)
        own_columns = positions.load_own_columns(dresponse_ref, next_row)

        def add_products() -> tuple[list[PairRow], list[Array]]:
            # Tap (a, b, c) of this row's response reads row + a - 1 of the pair.
            dpairs = [[list(dplane) for dplane in dpair] for dpair in dpair_rows]
            dweight_sums = list(dweights)
            for (a, b, c, p), line in itertools.product(TAPS_OWN_COLUMN_FIRST, range(lines)):
                n = TAPS.index((a, b, c, p))
                value = values[line + 2 - b][2 - c].astype(jnp.float32)
                dpairs[a][p][line] = multiply_add(value, weights[a, b, c, p], dpairs[a][p][line])
                dweight_sums[n] = multiply_add(
                    value, pair_rows[a][p][line].astype(jnp.float32), dweight_sums[n]
                )
            return dpairs, dweight_sums

        dpair_rows, dweights = positions.after_all_loads(row, add_products, (dpair_rows, dweights))
        store_row(row - 1, dpair_rows[0], ties, row > positions.first_row)
        return *as_float32((own_columns, pair_rows[1:])), dpair_rows[1:], dweights

    first = positions.first_read
    no_pair = [[zeros] * lines] * 2
    pair_rows = [no_pair, load_pair(first), load_pair(first + 1)]
    carried = (
        *as_float32((positions.load_own_columns(dresponse_ref, first), pair_rows)),
        [no_pair, no_pair],
        [zeros] * len(TAPS),
    )
    _, _, dpair_rows, dweights = jax.lax.fori_loop(first, positions.end_read, add_row, carried)
    # The clip's last row has no row after it, so the loop did not store it.
    last, is_last = positions.end_row - 1, positions.end_row == shape[0]
    store_row(last, dpair_rows[0], load_ties(last, is_last), is_last)
    for n, ((_, _, c, _), dweight) in enumerate(zip(TAPS, dweights, strict=True)):
        if c != 1:  # a column that does not exist was loaded as the thread's own
            dweight = jnp.where(positions.column_exists[1 - c], dweight, 0.0)
        triton.store(partial_sums_ref.at[program_number() * len(TAPS) + n], dweight.sum())
