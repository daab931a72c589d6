"""Runs a model over every video of a split."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from aia_jax.data.prefetch import MeshPrefetch, WaitStopped
from aia_jax.shapes import PyTree
from aia_jax.sharding import batch_shardings
from aia_jax.shards.damage_log import DamageLog


@dataclasses.dataclass(frozen=True)
class Result:
    """Means over the videos that could be evaluated.

    Attributes:
        top1: fraction of videos whose class has the largest logit.
        top5: fraction whose class is among the five largest (or all, with fewer classes).
        loss: cross-entropy in nats.
        evaluated: videos that count; damaged ones do not.
        expected: videos of the split.
    """

    top1: float
    top5: float
    loss: float
    evaluated: int
    expected: int


def try_eval_batch(
    eval_step: Callable[[PyTree, Mapping[str, Any]], Mapping[str, jax.Array]],
    variables: PyTree,
    mesh: jax.sharding.Mesh,
    batch_size: int,
    clip_shape: tuple[int, ...],
) -> None:
    """Compiles the evaluation step and runs it once on black clips, as `evaluate` will.

    `evaluate` then finds the compiled program, so the first batch is all that this costs.

    Args:
        eval_step: from `make_eval_step`, jitted.
        variables: {"params", "batch_stats"}.
        mesh: of the batches.
        batch_size: videos of a global batch.
        clip_shape: [T, H, W, 3] of a video, or [clips, T, H, W, 3].
    """
    shapes = {
        "clips": jax.ShapeDtypeStruct((batch_size, *clip_shape), np.uint8),
        "labels": jax.ShapeDtypeStruct((batch_size,), np.int32),
        "weights": jax.ShapeDtypeStruct((batch_size,), np.float32),
    }
    batch = {
        name: jnp.zeros(shapes[name].shape, shapes[name].dtype, device=sharding)
        for name, sharding in batch_shardings(mesh, shapes).items()
    }
    jax.block_until_ready(eval_step(variables, batch))


def evaluate(
    eval_step: Callable[[PyTree, Mapping[str, Any]], Mapping[str, jax.Array]],
    variables: PyTree,
    batches: MeshPrefetch,
    expected: int,
    damage: DamageLog,
    stop: Callable[[], bool] = lambda: False,
) -> Result | None:
    """Evaluates all batches.

    Args:
        eval_step: from `make_eval_step`, jitted.
        variables: {"params", "batch_stats"}.
        batches: from `eval_batches`, on the mesh; closed at the end.
        expected: videos of the split.
        damage: takes the ids of damaged videos.
        stop: called after each batch; True ends the evaluation, as `WaitStopped` does.

    Returns:
        The result; None if the evaluation was asked to stop.

    Raises:
        DataError: too many damaged videos, see `DamageLog.add`.
    """
    sums = None
    try:
        with batches:
            for batch in batches:
                damage.add(batch["damaged"].ravel())
                batch_sums = eval_step(
                    variables, {name: batch[name] for name in ("clips", "labels", "weights")}
                )
                # The sums stay on the devices, so the next batch starts before this one has ended.
                sums = batch_sums if sums is None else jax.tree.map(jnp.add, sums, batch_sums)
                if stop():
                    return None
    except WaitStopped:
        return None
    totals = {name: float(total) for name, total in sums.items()}
    evaluated = totals.pop("weight")
    means = {
        name: total / evaluated if evaluated else float("nan") for name, total in totals.items()
    }
    return Result(**means, evaluated=round(evaluated), expected=expected)
