"""The Pallas kernel of a pass over a feature.

A program holds a tile of one clip, some positions of one spatial axis with all channels, and walks
along the other spatial axis. All frames of a position lie side by side in its registers. So a plane
pooled over T is loaded once for all frames, and sums over T and over the axis of the walk are added
up in registers. Threads exchange values for sums over C only. Sums over H and over W take two
traversals, in different programs of the same kernel.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from aia_jax.ops.triton.availability import triton
from aia_jax.ops.triton.feature_pass_plan import (
    NO_AXIS,
    C,
    FeaturePass,
    Reduction,
    T,
    Tile,
    Traversal,
    plan_pass,
    remove_axis,
)
from aia_jax.shapes import Array


def feature_pass_kernel(spec: FeaturePass, operands: Sequence[Array]) -> tuple[Array, ...]:
    """Computes a pass as `feature_pass` does, from features and then planes."""
    shape, dtype = operands[0].shape, operands[0].dtype
    plan = plan_pass(spec, shape)

    def kernel(*refs: Any) -> None:
        number = pl.program_id(0)
        clip = jax.lax.div(number, jnp.int32(plan.num_programs))
        program = jax.lax.rem(number, jnp.int32(plan.num_programs))
        first = 0
        for traversal in plan.traversals:

            def run(traversal: Traversal = traversal, number: Array = program - first) -> None:
                tile_number = jax.lax.rem(number, jnp.int32(traversal.num_tiles))
                tile = Tile(shape, traversal, plan.columns, clip, tile_number)
                chunk = jax.lax.div(number, jnp.int32(traversal.num_tiles))
                first_step = chunk * traversal.chunk_steps
                _run_program(spec, tile, first_step, refs[: len(operands)], refs[len(operands) :])

            if len(plan.traversals) == 1:
                run()
            else:
                pl.when((program >= first) & (program < first + traversal.num_programs))(run)
            first += traversal.num_programs

    outputs = [
        (reduction.axis, dtype)
        for reduction in spec.reductions
        for _ in range(reduction.num_results)
    ] + [(NO_AXIS, dtype) for _, dtype in spec.writes]
    results = pl.pallas_call(
        kernel,
        grid=(shape[0] * plan.num_programs,),
        out_shape=[
            jax.ShapeDtypeStruct((math.prod(remove_axis(shape, axis)),), dtype)
            for axis, dtype in outputs
        ],
        compiler_params=triton.CompilerParams(num_warps=plan.num_warps),
    )(*(operand.reshape(-1) for operand in operands))
    return tuple(
        result.reshape(remove_axis(shape, axis))
        for result, (axis, _) in zip(results, outputs, strict=True)
    )


def _run_program(
    spec: FeaturePass,
    tile: Tile,
    first_step: Array,
    in_refs: Sequence[Any],
    out_refs: Sequence[Any],
) -> None:
    """Computes one program's outputs: its tile at every step of its chunk.

    Args:
        in_refs, out_refs: flattened arrays in the GPU's memory.
    """
    shape, traversal = tile.shape, tile.traversal
    along, steps_at_once = traversal.along, traversal.steps_at_once
    frames = range(shape[T])
    dtype = in_refs[0].dtype
    plane_inputs = range(spec.num_features, len(in_refs))
    pooled_axes = [NO_AXIS] * spec.num_features + list(spec.plane_axes)  # of every input
    # Reductions over the axis of the walk: the loop carries their sums from step to step.
    carried_reductions = [item for item in traversal.reductions if item[0].axis == along]

    def load(i: int, t: int | Array, step: Array) -> Array:
        offsets, exists = tile.locate(pooled_axes[i], t, step)
        if exists is None:
            return triton.load(in_refs[i].at[offsets])
        return triton.load(in_refs[i].at[offsets], mask=exists, other=0)

    def store(i: int, value: Array, pooled_axis: int, t: int | Array, step: Array) -> None:
        offsets, exists = tile.locate(pooled_axis, t, step)
        value = jnp.broadcast_to(value, offsets.shape).astype(out_refs[i].dtype)
        triton.store(out_refs[i].at[offsets], value, mask=exists)

    def store_results(
        reduction: Reduction, first: int, results: Sequence[Array], t: int | Array, step: Array
    ) -> None:
        if reduction.kind != "sum":  # the second result is still a sum; turn it into the mean
            results = (results[0], results[1] * (1 / shape[reduction.axis]), *results[2:])
        for i, result in enumerate(results, first):
            store(i, result, reduction.axis, t, step)

    def load_features(t: int | Array, step: Array) -> list[Array]:
        return [load(i, t, step) for i in range(spec.num_features)]

    def load_planes_without_t(step: Array) -> dict[int, Array]:
        """Index of an input → its loaded plane, for planes pooled over T: all frames share them."""
        return {i: load(i, 0, step) for i in plane_inputs if pooled_axes[i] == T}

    def compute_frame(
        features: Sequence[Array], loaded_planes: dict[int, Array], t: int | Array, step: Array
    ) -> Sequence[Array]:
        """Computes the values of a frame; stores the written ones and those reduced over C."""
        planes = [
            (loaded_planes[i] if i in loaded_planes else load(i, t, step)).astype(jnp.float32)
            for i in plane_inputs
        ]
        values = spec.body(
            [feature.astype(jnp.float32) for feature in features],
            planes,
            lambda value: value.astype(dtype).astype(jnp.float32),
        )
        for value, output in traversal.writes:
            store(output, values[value], NO_AXIS, t, step)
        for reduction, first in traversal.reductions:
            if reduction.axis == C:
                results = _reduce_columns(
                    values[reduction.value], reduction.kind, tile.existing_columns()
                )
                store_results(reduction, first, results, t, step)
        return values

    def run_step(step: Array, carried: tuple) -> tuple:
        """Computes all frames of one step, after loads of all of them were issued."""
        loaded_planes = load_planes_without_t(step)
        features = [load_features(t, step) for t in frames]
        values = [compute_frame(features[t], loaded_planes, t, step) for t in frames]
        for reduction, first in traversal.reductions:
            if reduction.axis == T:
                results = _reduce_frames(
                    [frame[reduction.value] for frame in values], reduction.kind
                )
                store_results(reduction, first, results, 0, step)
        return tuple(
            tuple(
                _accumulate(results, frame[reduction.value], reduction.kind)
                for results, frame in zip(results_of_frames, values, strict=True)
            )
            for (reduction, _), results_of_frames in zip(carried_reductions, carried, strict=True)
        )

    def run_steps_without_sums(number: Array, _: tuple) -> tuple:
        """Computes a few steps, for passes that reduce C only.

        Steps and frames then share nothing but planes, so a loop takes a few frames at a time and
        needs few registers.
        """
        steps = [number * steps_at_once + n for n in range(steps_at_once)]
        planes_without_t = [load_planes_without_t(step) for step in steps]
        frames_at_once = math.gcd(shape[T], (4 if len(plane_inputs) <= 3 else 2) // steps_at_once)

        def run_frames(round_number: Array, _: None) -> None:
            for t in [round_number * frames_at_once + n for n in range(frames_at_once)]:
                shared_by_steps = {
                    i: load(i, t, steps[0]) for i in plane_inputs if pooled_axes[i] == along
                }
                features_of_steps = [load_features(t, step) for step in steps]
                for step, planes, features in zip(
                    steps, planes_without_t, features_of_steps, strict=True
                ):
                    compute_frame(features, planes | shared_by_steps, t, step)

        jax.lax.fori_loop(0, shape[T] // frames_at_once, run_frames, None)
        return ()

    end_step = jnp.minimum(first_step + traversal.chunk_steps, shape[along])
    if all(reduction.axis == C for reduction, _ in traversal.reductions):
        jax.lax.fori_loop(
            jax.lax.div(first_step, jnp.int32(steps_at_once)),
            jax.lax.div(end_step, jnp.int32(steps_at_once)),
            run_steps_without_sums,
            (),
        )
        return
    zeros = jnp.zeros((traversal.tile_rows, tile.columns.shape[1]), jnp.float32)
    initial = {
        "sum": (zeros,),
        "pool": (zeros - jnp.inf, zeros),
        "ties": (zeros - jnp.inf, zeros, zeros),
    }
    carried = tuple(
        tuple(initial[reduction.kind] for _ in frames) for reduction, _ in carried_reductions
    )
    carried = jax.lax.fori_loop(first_step, end_step, run_step, carried)
    for (reduction, first), results_of_frames in zip(carried_reductions, carried, strict=True):
        for t, results in enumerate(results_of_frames):
            store_results(reduction, first, results, t, jnp.int32(0))


# Reductions. Results are (sum), (maximum, sum), or (maximum, sum, elements that equal the maximum).


def _accumulate(results: Sequence[Array], value: Array, kind: str) -> tuple[Array, ...]:
    """Adds one more value, element by element, to what is reduced so far."""
    if kind == "sum":
        return (results[0] + value,)
    maximum, total, *ties = results
    if ties:
        ties = [jnp.where(value > maximum, 1.0, ties[0] + jnp.where(value == maximum, 1.0, 0.0))]
    return jnp.maximum(maximum, value), total + value, *ties


def _reduce_frames(values: Sequence[Array], kind: str) -> tuple[Array, ...]:
    """Reduces the values of all frames, [tile_rows, columns] each."""
    total = functools.reduce(jnp.add, values)
    if kind == "sum":
        return (total,)
    maximum = functools.reduce(jnp.maximum, values)
    if kind == "pool":
        return maximum, total
    ties = functools.reduce(jnp.add, [jnp.where(value == maximum, 1.0, 0.0) for value in values])
    return maximum, total, ties


def _reduce_columns(value: Array, kind: str, exists: Array | None) -> tuple[Array, ...]:
    """Reduces [tile_rows, columns] to [tile_rows, 1], over the columns that exist."""

    def total(value: Array) -> Array:
        return (value if exists is None else jnp.where(exists, value, 0.0)).sum(1)[:, None]

    if kind == "sum":
        return (total(value),)
    maximum = (value if exists is None else jnp.where(exists, value, -jnp.inf)).max(1)[:, None]
    if kind == "pool":
        return maximum, total(value)
    return maximum, total(value), total(jnp.where(value == maximum, 1.0, 0.0))
