"""What a pass over a feature computes, and how programs on the GPU share the work.

README.md in this folder has a picture of a program.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax.experimental import pallas as pl

from aia_jax.ops.triton.availability import MAX_FRAMES
from aia_jax.shapes import Array

T, H, W, C = 1, 2, 3, 4  # axes of a feature [B, T, H, W, C]
NO_AXIS = 0  # in place of a pooled axis: the array is a feature and has all five

# (features, planes, round_to_dtype) → values; see `feature_pass.feature_pass`
Body = Callable[[Sequence[Array], Sequence[Array], Callable[[Array], Array]], Sequence[Array]]


class Reduction(NamedTuple):
    """Reduces one value of a pass along one axis.

    Attributes:
        value: index of the value among those that the pass's body returns.
        axis: T, H, W or C.
        kind: "sum"; "pool": the maximum and the mean; "ties": maximum, mean, and how many elements
            equal the maximum.
    """

    value: int
    axis: int
    kind: str

    @property
    def num_results(self) -> int:
        return {"sum": 1, "pool": 2, "ties": 3}[self.kind]


class FeaturePass(NamedTuple):
    """What a pass computes; `feature_pass.feature_pass` explains it.

    Attributes:
        body: computes the values, element by element.
        num_features: how many of the operands are features; the planes come after them.
        plane_axes: of each plane the axis over which it was pooled.
        reductions: planes that are reduced from values. Their results are the first outputs.
        writes: (index of a value, dtype) of each feature that is written. These outputs come last.
    """

    body: Body
    num_features: int
    plane_axes: tuple[int, ...]
    reductions: tuple[Reduction, ...]
    writes: tuple[tuple[int, Any], ...]


class Traversal(NamedTuple):
    """How one kind of programs goes over a clip, and which outputs these programs compute.

    A program holds a tile [tile_rows, columns] for all frames: some positions of the spatial axis
    `across`, with all channels. It walks along the other spatial axis, `along`, step by step. The
    walk is cut into chunks, which are programs of their own.

    Attributes:
        reductions: each with the index of its first output.
        writes: (index of a value, index of its output).
        along, across: H and W, or W and H.
        tile_rows: positions of `across` in a tile; a power of two.
        num_tiles: tiles that cover axis `across`.
        chunk_steps: steps along `along` of one program.
        num_chunks: chunks that cover axis `along`.
        steps_at_once: steps that are computed together where only C is reduced. They share the
            elements of planes that are pooled over `along`.
    """

    reductions: list[tuple[Reduction, int]]
    writes: list[tuple[int, int]]
    along: int
    across: int
    tile_rows: int
    num_tiles: int
    chunk_steps: int
    num_chunks: int
    steps_at_once: int

    @property
    def num_programs(self) -> int:
        """Programs for one clip."""
        return self.num_tiles * self.num_chunks


class Plan(NamedTuple):
    """How a kernel divides a pass.

    Attributes:
        traversals: one along W for what is reduced over W, one along H for all else. The programs
            of both are parts of one kernel.
        columns: the channels, filled up to a power of two.
        num_warps: of a program; a warp is 32 threads.
    """

    traversals: list[Traversal]
    columns: int
    num_warps: int

    @property
    def num_programs(self) -> int:
        """Programs for one clip."""
        return sum(traversal.num_programs for traversal in self.traversals)


def plan_pass(spec: FeaturePass, shape: Sequence[int]) -> Plan:
    """Divides a pass over features of a shape [B, T, H, W, C] among programs."""
    columns = pl.next_power_of_2(shape[C])
    # Sums over H or W are in registers for all frames. So a thread has few elements, and programs
    # are small, which leaves no processor idle while the last ones run.
    sums_along = any(reduction.axis in (H, W) for reduction in spec.reductions)
    per_thread, threads = (2 if shape[T] <= MAX_FRAMES // 2 else 1, 64) if sums_along else (4, 128)

    def plan_traversal(
        reductions: list[tuple[Reduction, int]],
        writes: list[tuple[int, int]],
        along: int,
        across: int,
    ) -> Traversal:
        tile_rows = min(pl.next_power_of_2(shape[across]), max(1, threads * per_thread // columns))
        num_tiles = pl.cdiv(shape[across], tile_rows)
        steps_at_once = math.gcd(shape[along], 2)
        if any(reduction.axis == along for reduction, _ in reductions):
            chunk_steps = shape[along]  # one program adds up the whole sum over the axis
        else:
            # At most 8 steps, and at least 1024 programs where there is that much work.
            rounds = min(8, shape[along] * shape[0] * num_tiles // 1024) // steps_at_once
            chunk_steps = steps_at_once * max(1, rounds)
        return Traversal(
            reductions,
            writes,
            along,
            across,
            tile_rows,
            num_tiles,
            chunk_steps,
            pl.cdiv(shape[along], chunk_steps),
            steps_at_once,
        )

    first_outputs = [
        sum(reduction.num_results for reduction in spec.reductions[:i])
        for i in range(len(spec.reductions))
    ]
    num_planes = sum(reduction.num_results for reduction in spec.reductions)
    reductions = list(zip(spec.reductions, first_outputs, strict=True))
    writes = [(value, output) for output, (value, _) in enumerate(spec.writes, num_planes)]
    over_width = [item for item in reductions if item[0].axis == W]
    others = [item for item in reductions if item[0].axis != W]
    traversals = []
    if others or writes:
        traversals.append(plan_traversal(others, writes, H, W))
    if over_width:
        traversals.append(plan_traversal(over_width, [], W, H))
    num_warps = max(1, min(16, traversals[0].tile_rows * columns // (32 * per_thread)))
    return Plan(traversals, columns, num_warps)


def remove_axis(shape: Sequence[int], axis: int) -> tuple[int, ...]:
    """Returns a feature's shape without an axis, or whole for NO_AXIS."""
    return tuple(size for i, size in enumerate(shape) if axis == NO_AXIS or i != axis)


class Tile:
    """The positions of one clip that a program computes at once, [tile_rows, columns].

    Attributes:
        rows, columns: positions along the axis `traversal.across` [tile_rows, 1], and channels
            [1, columns]. Those beyond the feature's shape do not exist.
    """

    def __init__(
        self, shape: Sequence[int], traversal: Traversal, columns: int, clip: Array, number: Array
    ) -> None:
        self.shape, self.traversal, self.clip = shape, traversal, clip
        first_row = number * traversal.tile_rows
        self.rows = first_row + jnp.arange(traversal.tile_rows, dtype=jnp.int32)[:, None]
        self.columns = jnp.arange(columns, dtype=jnp.int32)[None, :]
        self.has_missing_rows = bool(shape[traversal.across] % traversal.tile_rows)
        self.has_missing_columns = columns != shape[C]

    def locate(self, pooled_axis: int, t: int | Array, step: Array) -> tuple[Array, Array | None]:
        """Finds the tile in a flattened array, at a frame and a step.

        Args:
            pooled_axis: of the array; NO_AXIS for a feature.

        Returns:
            The offsets of the tile's elements, [tile_rows, columns], or [tile_rows, 1] for a plane
            pooled over C; and which elements exist (None: all).
        """
        strides = _strides(self.shape, pooled_axis)
        along, across = self.traversal.along, self.traversal.across
        offsets = self.clip * strides[0] + t * strides.get(T, 0) + step * strides.get(along, 0)
        exists = None
        for axis, positions, has_missing in (
            (across, self.rows, self.has_missing_rows),
            (C, self.columns, self.has_missing_columns),
        ):
            if axis in strides:
                offsets = offsets + positions * strides[axis]
                if has_missing:
                    inside = positions < self.shape[axis]
                    exists = inside if exists is None else exists & inside
        if C in strides:
            # Every thread loads the elements at its own positions, even if other threads load the
            # same ones: otherwise Triton would pass values between threads in shared memory.
            offsets = jnp.broadcast_to(offsets, (self.traversal.tile_rows, self.columns.shape[1]))
        return offsets, exists if exists is None else jnp.broadcast_to(exists, offsets.shape)

    def existing_columns(self) -> Array | None:
        """Which channels exist, [1, columns]; None: all."""
        return self.columns < self.shape[C] if self.has_missing_columns else None


def _strides(shape: Sequence[int], pooled_axis: int) -> dict[int, int]:
    """Axis → stride in the flattened array, for all axes but the pooled one."""
    axes = [axis for axis in range(5) if axis != pooled_axis or pooled_axis == NO_AXIS]
    return {axis: math.prod(shape[other] for other in axes if other > axis) for axis in axes}
