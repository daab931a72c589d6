"""Where the threads of a stencil's kernel are in a clip, and what they load there (`gpu_stencil`)."""

import itertools
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from aia_jax.ops.triton.availability import triton as plt
from aia_jax.shapes import Array

T = TypeVar("T")
Ref = Any  # a whole flattened array in the GPU's memory
Lines = list[Array]  # of a row, a value for each line of a thread

TAPS = tuple(
    itertools.product(range(3), range(3), range(3), range(2))
)  # the last over (maximum, mean), as they lie in memory


class Positions:
    """Where a program's threads are in a clip.

    Each has some lines of a column: positions [line .. line + lines, column] of a layer. Neighbours
    beyond an edge: those in another column get weight zero and some value of their line, those of
    another line are loaded as zero; this takes few predicates.
    """

    def __init__(
        self, shape: tuple[int, int, int], threads: int, lines: int, rows: int, rows_ref: Ref
    ) -> None:
        i, j, k = shape
        self.threads, self.layer = threads, j * k
        # Compilers are not to know i: in a loop of known extent LLVM carries a pointer for each
        # load, which takes registers.
        self.rows = rows_ref[0]
        zero = self.rows - i
        self.limit = self.rows + zero  # nor that rows lie below it, see `once_loaded`
        # A program's first row, the row after its last, and those it reads.
        self.first = pl.program_id(1) * rows + zero
        self.end = jnp.minimum(self.first + rows, i)
        self.start, self.stop = jnp.maximum(self.first - 1, 0), jnp.minimum(self.end + 1, self.rows)
        self.clip = pl.program_id(2) * (i * j * k)

        columns = pl.cdiv(j, lines) * k
        number = pl.program_id(0) * threads + jnp.arange(threads, dtype=jnp.int32)
        inside = None if columns % threads == 0 else number < columns
        line, column = (
            jax.lax.div(number, k) * lines,
            jax.lax.rem(number, k),
        )  # `//` would also round negative numbers
        self.lines_around = range(-1, lines + 1)
        self.columns = {-1: column > 0, 1: column < k - 1}
        # No condition for what always exists.
        within = {
            n: None if 0 <= n < lines and j % lines == 0 else (line + n >= 0) & (line + n < j)
            for n in self.lines_around
        }
        self.exists = {n: both(inside, condition) for n, condition in within.items()}
        beside = {c: jnp.where(exists, c, 0) for c, exists in self.columns.items()} | {0: 0}
        self.places = {
            (n, c): line * k + column + beside[c] + n * k for n in self.lines_around for c in beside
        }

    def weights(self, kernel_ref: Ref, sign: int) -> dict[tuple[int, int, int, int], Array]:
        """By tap and plane; zero where the neighbour in k does not exist."""
        weights = {tap: jnp.broadcast_to(kernel_ref[n], self.threads) for n, tap in enumerate(TAPS)}
        for tap in weights:
            if tap[2] != 1:
                weights[tap] = jnp.where(self.columns[sign * (tap[2] - 1)], weights[tap], 0.0)
        return weights

    def once_loaded(self, row: Array, products: Callable[[], T], without: T) -> T:
        """`products()`, always.

        ptxas, thrifty with registers, would wait for some loads and do their arithmetic before it
        issues others; it keeps loads before a branch that it cannot decide.
        """
        return jax.lax.cond(row < self.limit, products, lambda: without)

    def own_columns(self, ref: Ref, row: Array) -> Lines:
        return [self.load(ref, row, line, 0) for line in self.lines_around]

    def with_neighbours(self, ref: Ref, row: Array, own: Lines) -> list[Lines]:
        """By line, own columns between those beside them."""
        return [
            [self.load(ref, row, line, -1), value, self.load(ref, row, line, 1)]
            for line, value in zip(self.lines_around, own, strict=True)
        ]

    def load(
        self,
        ref: Ref,
        row: Array,
        line: int,
        column: int,
        where: Array | None = None,
        other: float = 0.0,
    ) -> Array:
        mask = both(self.exists[line], where)
        place = ref.at[self.clip + row * self.layer + self.places[line, column]]
        return plt.load(place) if mask is None else plt.load(place, mask=mask, other=other)

    def store(self, ref: Ref, row: Array, line: int, value: Array, where: Array) -> None:
        place = ref.at[self.clip + row * self.layer + self.places[line, 0]]
        plt.store(place, value.astype(ref.dtype), mask=both(self.exists[line], where))


def both(condition: Array | None, other: Array | None) -> Array | None:
    """Neither where it is None, which is always true."""
    return other if condition is None else condition if other is None else condition & other
