"""Runs a model over every video of a split."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from aia_jax.data.prefetch import MeshPrefetch, WaitStopped
from aia_jax.evaluation.multilabel import mean_average_precision
from aia_jax.shapes import PyTree
from aia_jax.sharding import batch_shardings
from aia_jax.shards.damage_log import DamageLog


@dataclasses.dataclass(frozen=True)
class Result:
    """Means over the videos that could be evaluated.

    Attributes:
        top1: fraction of videos whose class has the largest logit; of several classes, one of them.
        top5: fraction whose class is among the five largest (or all, with fewer classes).
        loss: cross-entropy in nats; with several labels a video the mean of all classes' binary
            ones.
        evaluated: videos that count; damaged ones do not.
        expected: videos of the split.
        mean_class_accuracy: mean over the classes that occur of the class's top-1; None with
            several labels.
        map: mean over the classes that occur of their average precision; None with one label.
    """

    top1: float
    top5: float
    loss: float
    evaluated: int
    expected: int
    mean_class_accuracy: float | None = None
    map: float | None = None

    def to_json(self) -> dict[str, float | int]:
        """The numbers that there are."""
        numbers = dataclasses.asdict(self)
        return {name: number for name, number in numbers.items() if number is not None}


def try_eval_batch(
    eval_step: Callable[[PyTree, Mapping[str, Any]], Mapping[str, Any]],
    variables: PyTree,
    mesh: jax.sharding.Mesh,
    batch_size: int,
    clip_shape: tuple[int, ...],
    label_shape: tuple[int, ...] = (),
) -> None:
    """Compiles the evaluation step and runs it once on black clips, as `evaluate` will.

    `evaluate` then finds the compiled program, so the first batch is all that this costs.

    Args:
        eval_step: from `make_eval_step`, jitted.
        variables: {"params", "batch_stats"}.
        mesh: of the batches.
        batch_size: videos of a global batch.
        clip_shape: [T, H, W, 3] of a video, or [clips, T, H, W, 3].
        label_shape: (), or [K] of videos with several labels.
    """
    label_dtype = np.uint8 if label_shape else np.int32
    shapes = {
        "clips": jax.ShapeDtypeStruct((batch_size, *clip_shape), np.uint8),
        "labels": jax.ShapeDtypeStruct((batch_size, *label_shape), label_dtype),
        "weights": jax.ShapeDtypeStruct((batch_size,), np.float32),
    }
    batch = {
        name: jnp.zeros(shapes[name].shape, shapes[name].dtype, device=sharding)
        for name, sharding in batch_shardings(mesh, shapes).items()
    }
    jax.block_until_ready(eval_step(variables, batch))


def evaluate(
    eval_step: Callable[[PyTree, Mapping[str, Any]], Mapping[str, Any]],
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
    sums, rows = None, []
    try:
        with batches:
            for batch in batches:
                damage.add(batch["damaged"].ravel())
                batch_sums = dict(
                    eval_step(
                        variables, {name: batch[name] for name in ("clips", "labels", "weights")}
                    )
                )
                rows.append(batch_sums.pop("rows", None))
                # The sums stay on the devices, so the next batch starts before this one has ended.
                sums = batch_sums if sums is None else jax.tree.map(jnp.add, sums, batch_sums)
                if stop():
                    return None
    except WaitStopped:
        return None
    totals = jax.tree.map(np.asarray, sums)
    evaluated = float(totals["weight"])
    means = {
        name: float(totals[name]) / evaluated if evaluated else float("nan")
        for name in ("top1", "top5", "loss")
    }
    if rows[0] is None:
        means["mean_class_accuracy"] = _mean_of_classes(totals)
    else:
        means["map"] = _mean_average_precision(rows)
    return Result(**means, evaluated=round(evaluated), expected=expected)


def _mean_of_classes(totals: Mapping[str, np.ndarray]) -> float:
    """The mean of the classes' top-1, from sums by class [K]; NaN if no class occurs."""
    occurs = totals["class_videos"] > 0
    if not occurs.any():
        return float("nan")
    return float((totals["class_top1"][occurs] / totals["class_videos"][occurs]).mean(dtype=float))


def _mean_average_precision(rows: Sequence[Mapping[str, jax.Array]]) -> float:
    """From the logits and labels [B, K] and weights [B] of every batch."""
    logits, labels, weights = (
        np.concatenate([np.asarray(batch[name]) for batch in rows])
        for name in ("logits", "labels", "weights")
    )
    counts = weights > 0
    if not np.isfinite(logits[counts]).all():
        return float("nan")
    return mean_average_precision(logits[counts], labels[counts] > 0)
