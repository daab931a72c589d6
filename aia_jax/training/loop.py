"""The loop over steps: what happens after each, at the end of an epoch, and when something asks it
to end.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax

from aia_jax.data.prefetch import MeshPrefetch
from aia_jax.errors import RunFailed, Stopped
from aia_jax.training.log import NonFiniteLoss, RunLog
from aia_jax.training.profile import DeviceIdle, Profile
from aia_jax.training.state import TrainState
from aia_jax.training.stop import StopRequest

Metrics = Mapping[str, float | int]


@dataclasses.dataclass(frozen=True)
class Course:
    """How far the run goes and where it pauses; all in optimiser steps."""

    start_step: int
    steps_per_epoch: int
    total_steps: int
    checkpoint_every: int  # 0: at the ends of epochs only

    def ends_epoch(self, step: int) -> bool:
        return step % self.steps_per_epoch == 0

    def saves_within_epoch(self, step: int) -> bool:
        return self.checkpoint_every > 0 and step % self.checkpoint_every == 0


@dataclasses.dataclass(frozen=True)
class Parts:
    """What the loop calls.

    Attributes:
        train_step: (state, batch, key) → (state, metrics), jitted; the state is donated.
        validate: state → metrics of the validation split, or None when it broke off because the run
            is to stop.
        save: (step, state, validation metrics or None) starts a checkpoint; with `replace` it may
            be one that is there.
        finish_saving: waits until the last checkpoint is on the disk.
        damaged: takes a batch's `damaged` record ids; raises when they are too many.
        describe_batch: names the videos of a step's batch.
        after_epoch: called with the epoch's curves complete.
        profile: traces the steps it was made for.
    """

    train_step: Callable[[TrainState, Any, jax.Array], tuple[TrainState, dict[str, jax.Array]]]
    validate: Callable[[TrainState], Metrics | None]
    save: Callable[..., None]
    finish_saving: Callable[[], None]
    damaged: Callable[[Any], None]
    describe_batch: Callable[[int], str]
    after_epoch: Callable[[], None]
    profile: Profile


def train(
    state: TrainState,
    key: jax.Array,
    batches: MeshPrefetch,
    course: Course,
    parts: Parts,
    log: RunLog,
    stop: StopRequest,
) -> TrainState:
    """Trains from `course.start_step` to the end.

    A checkpoint is saved only when every step up to it is known to be finite, so the last good one
    is never overwritten by a bad one.

    Raises:
        Stopped: asked to stop; the state is saved.
        RunFailed: a loss or gradient that is not finite; nothing is saved.
    """

    def end_epoch(step: int, *, replace: bool = False) -> None:
        log.flush()
        log.status("validating")
        metrics = None if stop.now else parts.validate(state)
        if metrics is None:
            if not replace:
                save_and_stop(step)
            raise Stopped(_stopped_at(step))
        log.validation(step, metrics)
        parts.save(step, state, metrics, replace=replace)
        parts.after_epoch()

    def save_and_stop(step: int) -> None:
        log.flush()
        parts.save(step, state, None)
        parts.finish_saving()
        raise Stopped(_stopped_at(step))

    try:
        start, validated = course.start_step, log.last_row("validation")
        if start and course.ends_epoch(start) and (validated is None or validated["step"] != start):
            end_epoch(
                start, replace=True
            )  # the run was stopped between the epoch's last step and its validation
        waited, idle = 0.0, DeviceIdle()
        for step in range(start + 1, course.total_steps + 1):
            parts.profile.before(step)
            batch = next(batches)
            parts.damaged(batch["damaged"])
            idle.before_step()
            state, metrics = parts.train_step(
                state, {"clips": batch["clips"], "labels": batch["labels"]}, key
            )
            log.train(
                step,
                metrics,
                clips=batch["labels"].shape[0],
                data_wait=batches.wait_seconds - waited,
                device_idle=idle.after_step(metrics),
            )
            waited = batches.wait_seconds
            if parts.profile.after(step, metrics):
                log.message(f"a trace up to step {step} is in {parts.profile.folder}")
            if course.ends_epoch(step):
                end_epoch(step)
            elif stop.at(step):
                save_and_stop(step)
            elif course.saves_within_epoch(step):
                log.flush()
                parts.save(step, state, None)
        parts.finish_saving()
    except NonFiniteLoss as bad:
        raise RunFailed(f"{bad}: {parts.describe_batch(bad.step)}") from bad
    return state


def _stopped_at(step: int) -> str:
    return f"after step {step}, saved; run the same command again to go on"
