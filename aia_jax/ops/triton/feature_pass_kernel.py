"""One pass over a feature on an NVIDIA GPU, as a Pallas kernel.

A program holds a tile of one clip, some positions of one spatial axis with all channels, and walks
along the other spatial axis with all frames side by side. So a plane that lacks T serves all
frames, sums over T and over the axis it walks along meet in registers, and nothing is exchanged
between threads but for sums over C. What is summed up over H and over W takes two walks, programs
of one kernel.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from aia_jax.ops.triton.availability import triton as plt
from aia_jax.shapes import Array

T, H, W, C = 1, 2, 3, 4  # axes of a feature
MAX_FRAMES = 32  # they lie side by side in registers

Body = Callable[[Sequence[Array], Sequence[Array], Callable[[Array], Array]], Sequence[Array]]


class Reduction(NamedTuple):
    """Of one value of a pass along one axis.

    Attributes:
        value: which one of the body's.
        axis: T, H, W or C.
        kind: "sum"; "pool": the maximum and the mean; "ties": these and how many elements equal the
            maximum.
    """

    value: int
    axis: int
    kind: str

    @property
    def results(self) -> int:
        return {"sum": 1, "pool": 2, "ties": 3}[self.kind]


class Pass(NamedTuple):
    """What is computed, see `gpu_pass.feature_pass`.

    Attributes:
        body: (features, planes, rounded) → values.
        num_features: the first so many arrays are features, the others planes.
        lacking: of each plane the axis that it has not.
        reductions: what to reduce.
        writes: (which value, dtype) of what is written in the feature's shape.
    """

    body: Body
    num_features: int
    lacking: tuple[int, ...]
    reductions: tuple[Reduction, ...]
    writes: tuple[tuple[int, Any], ...]


class _Walk(NamedTuple):
    """What some of the programs compute, and how they cut a clip.

    It falls into `tiles` of `rows` positions of axis `across`, and `chunks` of `chunk` steps along
    axis `along`.

    Where nothing is summed up along the walk, `at_once` steps are taken together, which share
    planes that lack its axis.
    """

    reduced: list[tuple[Reduction, int]]  # and the number of its first output
    written: list[tuple[int, int]]  # values, and the numbers of their outputs
    along: int
    across: int
    rows: int
    tiles: int
    chunk: int
    chunks: int
    at_once: int

    @property
    def programs(self) -> int:
        return self.tiles * self.chunks


def pass_by_kernel(what: Pass, arrays: Sequence[Array], interpret: bool) -> tuple[Array, ...]:
    """The results, as `feature_pass` lists them."""
    shape, dtype = arrays[0].shape, arrays[0].dtype
    columns = pl.next_power_of_2(shape[C])
    # Sums along the walk are in registers for all frames: few elements a thread, and small
    # programs, which leave none idle at the end.
    sums_up = any(reduction.axis in (H, W) for reduction in what.reductions)
    per_thread, threads = (2 if shape[T] <= MAX_FRAMES // 2 else 1, 64) if sums_up else (4, 128)

    def walk(
        reduced: list[tuple[Reduction, int]],
        written: list[tuple[int, int]],
        along: int,
        across: int,
    ) -> _Walk:
        rows = min(pl.next_power_of_2(shape[across]), max(1, threads * per_thread // columns))
        tiles = pl.cdiv(shape[across], rows)
        at_once = math.gcd(shape[along], 2)
        chunk = at_once * max(1, min(8, shape[along] * shape[0] * tiles // 1024) // at_once)
        if any(reduction.axis == along for reduction, _ in reduced):
            chunk = shape[along]
        return _Walk(
            reduced,
            written,
            along,
            across,
            rows,
            tiles,
            chunk,
            pl.cdiv(shape[along], chunk),
            at_once,
        )

    # Outputs are numbered as they are returned.
    lacking_of_results = [
        reduction.axis for reduction in what.reductions for _ in range(reduction.results)
    ]
    firsts = [
        sum(reduction.results for reduction in what.reductions[:i])
        for i in range(len(what.reductions))
    ]
    reduced = list(zip(what.reductions, firsts, strict=True))
    written = [
        (value, number) for number, (value, _) in enumerate(what.writes, len(lacking_of_results))
    ]
    over_width = [each for each in reduced if each[0].axis == W]
    others = [each for each in reduced if each[0].axis != W]
    walks = [walk(others, written, H, W)] * bool(others or written) + [
        walk(over_width, [], W, H)
    ] * bool(over_width)
    programs = sum(each.programs for each in walks)

    def kernel(*refs: Any) -> None:
        program = pl.program_id(0)
        clip, program = (
            jax.lax.div(program, jnp.int32(programs)),
            jax.lax.rem(program, jnp.int32(programs)),
        )
        first = 0
        for how in walks:

            def run(how: _Walk = how, number: Array = program - first) -> None:
                tile = _Tile(shape, how, columns, clip, jax.lax.rem(number, jnp.int32(how.tiles)))
                start = jax.lax.div(number, jnp.int32(how.tiles)) * how.chunk
                _walked(what, tile, start, refs[: len(arrays)], refs[len(arrays) :])

            if len(walks) == 1:
                run()
            else:
                pl.when((program >= first) & (program < first + how.programs))(run)
            first += how.programs

    outputs = [(lack, dtype) for lack in lacking_of_results] + [
        (0, dtype) for _, dtype in what.writes
    ]
    results = pl.pallas_call(
        kernel,
        grid=(shape[0] * programs,),
        out_shape=[
            jax.ShapeDtypeStruct((math.prod(_without(shape, lack)),), dtype)
            for lack, dtype in outputs
        ],
        compiler_params=plt.CompilerParams(
            num_warps=max(1, min(16, walks[0].rows * columns // (32 * per_thread)))
        ),
        interpret=interpret,
    )(*(array.reshape(-1) for array in arrays))
    return tuple(
        result.reshape(_without(shape, lack))
        for result, (lack, _) in zip(results, outputs, strict=True)
    )


def _without(shape: Sequence[int], axis: int) -> tuple[int, ...]:
    """A feature's shape without an axis; axis 0 takes none away."""
    return tuple(size for i, size in enumerate(shape) if not axis or i != axis)


def _strides(shape: Sequence[int], lacking: int) -> dict[int, int]:
    """Axis → stride; nothing for the axis that is lacking."""
    axes = [axis for axis in range(5) if axis != lacking or not lacking]
    return {axis: math.prod(shape[other] for other in axes if other > axis) for axis in axes}


class _Tile:
    """Positions of one clip that a program computes at once: rows of one spatial axis, all
    channels.
    """

    def __init__(self, shape: Sequence[int], how: _Walk, columns: int, clip: Array, number: Array):
        self.shape, self.how, self.clip = shape, how, clip
        self.row = number * how.rows + jnp.arange(how.rows, dtype=jnp.int32)[:, None]
        self.column = jnp.arange(columns, dtype=jnp.int32)[None, :]
        self.ragged = bool(shape[how.across] % how.rows), columns != shape[C]

    def place(self, lacking: int, t: int | Array, step: Array) -> tuple[Array, Array | None]:
        """Offsets of the tile in an array, which may lack an axis, at a frame and a step, and which
        of them exist.
        """
        strides = _strides(self.shape, lacking)
        where = (
            self.clip * strides[0] + t * strides.get(T, 0) + step * strides.get(self.how.along, 0)
        )
        exists = None
        for axis, position, ragged in (
            (self.how.across, self.row, self.ragged[0]),
            (C, self.column, self.ragged[1]),
        ):
            if axis in strides:
                where = where + position * strides[axis]
                if ragged:
                    inside = position < self.shape[axis]
                    exists = inside if exists is None else exists & inside
        if C in strides:
            # Each thread asks for what belongs to its own positions: other threads' values would
            # come through shared memory.
            where = jnp.broadcast_to(where, (self.how.rows, self.column.shape[1]))
        return where, exists if exists is None else jnp.broadcast_to(exists, where.shape)

    def columns_exist(self) -> Array | None:
        return self.column < self.shape[C] if self.ragged[1] else None


def _walked(
    what: Pass, tile: _Tile, start: Array, in_refs: Sequence[Any], out_refs: Sequence[Any]
) -> None:
    """One program: the tile along all its steps."""
    shape, along = tile.shape, tile.how.along
    frames = range(shape[T])
    reduced = tile.how.reduced
    held = [each for each in reduced if each[0].axis == along]
    planes_of = range(what.num_features, len(in_refs))
    lacking = [0] * what.num_features + list(what.lacking)
    dtype = in_refs[0].dtype

    def load(i: int, t: int | Array, step: Array) -> Array:
        where, exists = tile.place(lacking[i], t, step)
        return (
            plt.load(in_refs[i].at[where])
            if exists is None
            else plt.load(in_refs[i].at[where], mask=exists, other=0)
        )

    def store(i: int, value: Array, lack: int, t: int | Array, step: Array) -> None:
        where, exists = tile.place(lack, t, step)
        plt.store(
            out_refs[i].at[where],
            jnp.broadcast_to(value, where.shape).astype(out_refs[i].dtype),
            mask=exists,
        )

    def stored(
        reduction: Reduction, first: int, results: Sequence[Array], t: int | Array, step: Array
    ) -> None:
        if reduction.kind != "sum":
            results = (results[0], results[1] * (1 / shape[reduction.axis]), *results[2:])
        for i, result in enumerate(results, first):
            store(i, result, reduction.axis, t, step)

    def features_of(t: int | Array, step: Array) -> list[Array]:
        return [load(i, t, step) for i in range(what.num_features)]

    def one_frame(
        features: Sequence[Array], shared: dict[int, Array], t: int | Array, step: Array
    ) -> Sequence[Array]:
        planes = [
            (shared[i] if i in shared else load(i, t, step)).astype(jnp.float32) for i in planes_of
        ]
        values = what.body(
            [feature.astype(jnp.float32) for feature in features],
            planes,
            lambda value: value.astype(dtype).astype(jnp.float32),
        )
        for value, output in tile.how.written:
            store(output, values[value], 0, t, step)
        for reduction, first in reduced:
            if reduction.axis == C:
                stored(
                    reduction,
                    first,
                    _over_channels(values[reduction.value], reduction.kind, tile.columns_exist()),
                    t,
                    step,
                )
        return values

    # What is read from memory is asked for before any of it is used.
    def one_step(step: Array, held_so_far: tuple) -> tuple:
        shared = {i: load(i, 0, step) for i in planes_of if lacking[i] == T}  # by all frames
        values = [
            one_frame(features, shared, t, step)
            for t, features in enumerate([features_of(t, step) for t in frames])
        ]
        for reduction, first in reduced:
            if reduction.axis == T:
                stored(
                    reduction,
                    first,
                    _over_list([value[reduction.value] for value in values], reduction.kind),
                    0,
                    step,
                )
        return tuple(
            tuple(
                _joined(so_far, value[reduction.value], reduction.kind)
                for so_far, value in zip(all_so_far, values, strict=True)
            )
            for (reduction, _), all_so_far in zip(held, held_so_far, strict=True)
        )

    def steps_without_sums(number: Array, _: tuple) -> tuple:
        """Where nothing is summed up but channels, steps and frames have nothing in common but
        planes: a few at a time, in a loop.
        """
        steps = [number * tile.how.at_once + n for n in range(tile.how.at_once)]
        shared = [{i: load(i, 0, step) for i in planes_of if lacking[i] == T} for step in steps]
        few = math.gcd(shape[T], (4 if len(planes_of) <= 3 else 2) // tile.how.at_once)

        def some_frames(round_: Array, _: None) -> None:
            for t in [round_ * few + n for n in range(few)]:
                by_steps = {i: load(i, t, steps[0]) for i in planes_of if lacking[i] == along}
                for step, planes, features in zip(
                    steps, shared, [features_of(t, step) for step in steps], strict=True
                ):
                    one_frame(features, planes | by_steps, t, step)

        jax.lax.fori_loop(0, shape[T] // few, some_frames, None)
        return ()

    end = jnp.minimum(start + tile.how.chunk, shape[along])
    if all(reduction.axis == C for reduction, _ in reduced):
        jax.lax.fori_loop(
            jax.lax.div(start, jnp.int32(tile.how.at_once)),
            jax.lax.div(end, jnp.int32(tile.how.at_once)),
            steps_without_sums,
            (),
        )
        return
    empty = jnp.zeros((tile.how.rows, tile.column.shape[1]), jnp.float32)
    nothing = {
        "sum": (empty,),
        "pool": (empty - jnp.inf, empty),
        "ties": (empty - jnp.inf, empty, empty),
    }
    nothing_held = tuple(tuple(nothing[reduction.kind] for _ in frames) for reduction, _ in held)
    held_at_last = jax.lax.fori_loop(start, end, one_step, nothing_held)
    for (reduction, first), of_frames in zip(held, held_at_last, strict=True):
        for t, results in enumerate(of_frames):
            stored(reduction, first, results, t, jnp.int32(0))


def _joined(so_far: Sequence[Array], value: Array, kind: str) -> tuple[Array, ...]:
    if kind == "sum":
        return (so_far[0] + value,)
    maximum, total, *ties = so_far
    if ties:
        ties = [jnp.where(value > maximum, 1.0, ties[0] + jnp.where(value == maximum, 1.0, 0.0))]
    return jnp.maximum(maximum, value), total + value, *ties


def _over_list(values: Sequence[Array], kind: str) -> tuple[Array, ...]:
    total = functools.reduce(jnp.add, values)
    if kind == "sum":
        return (total,)
    maximum = functools.reduce(jnp.maximum, values)
    if kind == "pool":
        return maximum, total
    return (
        maximum,
        total,
        functools.reduce(jnp.add, [jnp.where(value == maximum, 1.0, 0.0) for value in values]),
    )


def _over_channels(value: Array, kind: str, exist: Array | None) -> tuple[Array, ...]:
    """Of a tile [rows, columns], to [rows, 1]."""

    def total(value: Array) -> Array:
        return (value if exist is None else jnp.where(exist, value, 0.0)).sum(1)[:, None]

    if kind == "sum":
        return (total(value),)
    maximum = (value if exist is None else jnp.where(exist, value, -jnp.inf)).max(1)[:, None]
    if kind == "pool":
        return maximum, total(value)
    return maximum, total(value), total(jnp.where(value == maximum, 1.0, 0.0))
