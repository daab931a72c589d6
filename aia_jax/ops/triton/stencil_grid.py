"""How the stencil's kernels divide planes among programs and threads, and how threads load them.

A plane of a clip is [i, j, k]. In this folder a row is a layer [j, k] of it, at one position along
i; a line is one position along j, a column one along k. README.md has a picture.
"""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from aia_jax.ops.triton.availability import triton
from aia_jax.shapes import Array

T = TypeVar("T")
Ref = Any  # a whole flattened array in the GPU's memory
Lines = list[Array]  # of one row: for each line of a thread an array with one element per thread

# (a, b, c, p): shifts by a - 1, b - 1 and c - 1 along i, j and k, of maximum (p = 0) or mean (1).
# They are in the order in which the kernel [3, 3, 3, 2] lies in memory.
TAPS = tuple(itertools.product(range(3), range(3), range(3), range(2)))

# The order in which a row's taps are computed: first those without a shift along k, because a
# thread's own column was loaded one row ahead.
TAPS_OWN_COLUMN_FIRST = sorted(TAPS, key=lambda tap: tap[2] != 1)

WARP = 32  # threads


class Division(NamedTuple):
    """How a kernel divides planes [b, i, j, k].

    Attributes:
        threads: of a program. Together they take threads · lines positions of a row.
        lines: of a thread, side by side along j.
        rows: of a program, one after the other along i.
        programs_per_row: programs that cover a row.
        chunks: programs that cover axis i.
    """

    threads: int
    lines: int
    rows: int
    programs_per_row: int
    chunks: int


def divide_for_stencil(shape: tuple[int, ...]) -> Division:
    # An H100 runs 2,112 warps of two lines at a time (up to 128 registers a thread), or 1,584 of
    # four lines (up to 168). Enough warps for several rounds keep it busy until the end.
    return _divide(shape, max_threads=4 * WARP, max_rows=14, min_warps={4: 3000, 2: 1500, 1: 1500})


def divide_for_gradient(shape: tuple[int, ...]) -> Division:
    # A program is one warp, which adds up its 54 sums without a barrier. An H100 runs 1,056 warps
    # of four lines at a time (240 registers a thread).
    return _divide(shape, max_threads=WARP, max_rows=28, min_warps={4: 800, 2: 1200, 1: 1500})


def _divide(
    shape: tuple[int, ...], max_threads: int, max_rows: int, min_warps: dict[int, int]
) -> Division:
    """Gives threads as many lines, and programs as many rows, as leave enough warps.

    Neighbouring lines and rows share loads, so many of them are good; but few leave more warps.

    Args:
        min_warps: lines of a thread → how many warps keep a GPU busy. More lines come first.
    """
    batch, i, j, k = shape
    for lines, warps in min_warps.items():
        columns = pl.cdiv(j, lines) * k
        threads = max(WARP, min(max_threads, pl.next_power_of_2(columns)))
        programs_per_row = pl.cdiv(columns, threads)
        warps_per_row = batch * programs_per_row * (threads // WARP)
        if warps_per_row * pl.cdiv(i, 14) >= warps:
            break
    chunks = max(pl.cdiv(i, max_rows), min(i, pl.cdiv(warps, warps_per_row)))
    rows = pl.cdiv(i, chunks)
    return Division(threads, lines, rows, programs_per_row, pl.cdiv(i, rows))


def num_rows_operand(i: int) -> Array:
    """Returns i as an operand of a kernel, see `Positions`.

    It has one element, because XLA starts no kernel for an array of one constant.
    """
    return jnp.full(1, i, jnp.int32)


def program_number() -> Array:
    """Numbers the programs of a grid (programs_per_row, chunks, clips), clip after clip."""
    chunk = pl.program_id(2) * pl.num_programs(1) + pl.program_id(1)
    return chunk * pl.num_programs(0) + pl.program_id(0)


class Positions:
    """Where a program's threads are in a clip, and what they load and store there.

    A thread has some lines of one column: elements [row, line .. line + lines, column], and
    accesses the lines before and after them, too. A neighbour beyond an edge counts as zero, in one
    of two ways that take few instructions: a line that does not exist is loaded as zero; in place
    of a column that does not exist the thread's own is loaded, and gets weight zero.

    Attributes:
        first_row, end_row: the rows of the program are first_row .. end_row - 1.
        first_read, end_read: the rows that it reads: one more before and after, if the clip has it.
        num_rows: i, the rows of the clip.
        lines_around: -1, 0, …, lines: a thread's lines, with the ones before and after.
        line_exists: for each of `lines_around` a mask of threads; None: it exists for all of them.
        column_exists: for the columns before (-1) and after (1) a mask of threads.
    """

    def __init__(
        self, shape: tuple[int, int, int], threads: int, lines: int, rows: int, num_rows_ref: Ref
    ) -> None:
        i, j, k = shape
        self.threads, self.row_size = threads, j * k
        # The number of rows is i, but it is read from memory, so that compilers do not know it. In
        # a loop of known extent LLVM would carry a pointer for each load, which takes registers.
        self.num_rows = num_rows_ref[0]
        zero = self.num_rows - i
        self.row_limit = self.num_rows + zero  # compilers do not know that all rows lie below it
        self.first_row = pl.program_id(1) * rows + zero
        self.end_row = jnp.minimum(self.first_row + rows, i)
        self.first_read = jnp.maximum(self.first_row - 1, 0)
        self.end_read = jnp.minimum(self.end_row + 1, self.num_rows)
        self.clip_offset = pl.program_id(2) * (i * j * k)

        # A thread's number counts columns, k of them for each group of lines.
        columns = pl.cdiv(j, lines) * k
        number = pl.program_id(0) * threads + jnp.arange(threads, dtype=jnp.int32)
        thread_exists = None if columns % threads == 0 else number < columns
        # `//` and `%` would take more instructions, as they also handle negative numbers.
        line = jax.lax.div(number, k) * lines
        column = jax.lax.rem(number, k)
        self.lines_around = range(-1, lines + 1)
        self.column_exists = {-1: column > 0, 1: column < k - 1}
        line_in_plane = {
            n: None if 0 <= n < lines and j % lines == 0 else (line + n >= 0) & (line + n < j)
            for n in self.lines_around
        }
        self.line_exists = {
            n: both(thread_exists, in_plane) for n, in_plane in line_in_plane.items()
        }
        shifts = {c: jnp.where(exists, c, 0) for c, exists in self.column_exists.items()} | {0: 0}
        self.offsets = {  # in a row, by line and column
            (n, c): line * k + column + shifts[c] + n * k for n in self.lines_around for c in shifts
        }

    def load_weights(self, kernel_ref: Ref, sign: int) -> dict[tuple[int, int, int, int], Array]:
        """Loads the kernel for all threads, by tap.

        Args:
            sign: 1 if tap (a, b, c, p) reads the column c - 1 further, -1 if it reads c - 1 back.
                The weight is zero for threads where that column does not exist.
        """
        weights = {tap: jnp.broadcast_to(kernel_ref[n], self.threads) for n, tap in enumerate(TAPS)}
        for tap in weights:
            if tap[2] != 1:
                exists = self.column_exists[sign * (tap[2] - 1)]
                weights[tap] = jnp.where(exists, weights[tap], 0.0)
        return weights

    def after_all_loads(self, row: Array, compute: Callable[[], T], unchanged: T) -> T:
        """Returns `compute()`, and keeps the loads that were issued before it ahead of it.

        ptxas saves registers: it would wait for the first loads and compute with them before it
        issues the others. It does not move a load across a branch that it cannot decide, so
        `compute` stands in a branch that is always taken.

        Args:
            unchanged: the result of the branch that is never taken.
        """
        return jax.lax.cond(row < self.row_limit, compute, lambda: unchanged)

    def load_own_columns(self, ref: Ref, row: Array) -> Lines:
        """Loads a thread's own column of a row, at `lines_around`."""
        return [self.load(ref, row, line, 0) for line in self.lines_around]

    def add_neighbours(self, ref: Ref, row: Array, own_columns: Lines) -> list[Lines]:
        """Loads the neighbours: [column before, own, after] for each of `lines_around`."""
        return [
            [self.load(ref, row, line, -1), own, self.load(ref, row, line, 1)]
            for line, own in zip(self.lines_around, own_columns, strict=True)
        ]

    def load(
        self,
        ref: Ref,
        row: Array,
        line: int,
        column: int,
        condition: Array | None = None,
        other: float = 0.0,
    ) -> Array:
        """Loads an element a thread; `other` where the line does not exist or `condition` fails."""
        mask = both(self.line_exists[line], condition)
        element = ref.at[self.clip_offset + row * self.row_size + self.offsets[line, column]]
        if mask is None:
            return triton.load(element)
        return triton.load(element, mask=mask, other=other)

    def store(self, ref: Ref, row: Array, line: int, value: Array, condition: Array) -> None:
        """Stores one element for each thread, in its own column, where `condition` holds."""
        element = ref.at[self.clip_offset + row * self.row_size + self.offsets[line, 0]]
        triton.store(element, value.astype(ref.dtype), mask=both(self.line_exists[line], condition))


def both(condition: Array | None, other: Array | None) -> Array | None:
    """Returns the conjunction of two conditions; None stands for one that always holds."""
    if condition is None:
        return other
    return condition if other is None else condition & other


def as_float32(values: T) -> T:
    """Casts arrays that the loop carries to the next row.

    The cast waits until they are loaded, so it comes after the arithmetic of the row.
    """
    return jax.tree.map(lambda value: value.astype(jnp.float32), values)


def multiply_add(a: Array, b: Array, c: Array) -> Array:
    """Computes a · b + c in float32, in one instruction.

    Triton, as Pallas calls it, would leave a product and a sum two instructions, and these are most
    of the kernels' work.
    """
    return triton.elementwise_inline_asm(
        "fma.rn.f32 $0, $1, $2, $3;",
        args=(a, b, c),
        constraints="=f,f,f,f",
        pack=1,
        result_shape_dtypes=(jax.ShapeDtypeStruct(c.shape, c.dtype),),
    )[0]
