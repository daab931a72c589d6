"""What a run leaves behind and shows: metrics.jsonl, TensorBoard events and the progress line."""

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
import numpy as np

from aia_jax.training.events import EventFile
from aia_jax.training.metrics_file import METRICS_FILE, MetricsFile, read_rows
from aia_jax.training.profile import StepTime
from aia_jax.training.progress import ProgressLine

TENSORBOARD_DIR = "tensorboard"
# Steps whose metrics are left on the device: with one running and one waiting it never idles.
_IN_FLIGHT = 2
_LONG_WAIT = 0.2  # share of the time from which waiting for data is worth a message
_MUST_BE_FINITE = ("loss", "grad_norm")


class NonFiniteLoss(ArithmeticError):
    """A step's loss or gradient norm is NaN or infinite.

    Attributes:
        step: the step, counted from 1. Up to two steps after it have been taken too.
        quantity: "loss" or "grad_norm".
        value: what it was.
    """

    def __init__(self, step: int, quantity: str, value: float):
        super().__init__(f"{quantity} is {value} at step {step}")
        self.step, self.quantity, self.value = step, quantity, value


class RunLog:
    """Collects the metrics of a run without making the devices wait.

    Rows of metrics.jsonl hold "step", "epoch" (from 1), "split" ("train" or "validation") and
    numbers; a number that is not finite is null. A training row averages the "steps" steps up to
    "step" and adds "lr" (of its last step), "clips_per_s", "steps_per_s", and two shares of the
    time: "data_wait", waiting for data (above 20% after the first epoch, the log says once what to
    raise), and "device_idle", in which the devices had no step to work on. A step's time runs from
    the end of the step before to its own end on the devices; after a pause (validation, saving) it
    begins when the loop asks for the batch. The first step of a process has none, because it
    compiles. Rows end at multiples of `log_every` and wherever `flush` was called; together they
    cover every step once, also after restarts, if the loop calls `flush` before it saves a
    checkpoint.

    All processes must make the same calls. Process 0 writes and prints; the others only watch for
    losses that are not finite.
    """

    def __init__(
        self,
        workdir: str | Path,
        *,
        total_steps: int,
        steps_per_epoch: int,
        start_step: int = 0,
        log_every: int = 20,
        tensorboard: bool = True,
        process_index: int | None = None,
    ):
        """Opens the log of a run that has finished `start_step` steps.

        Rows that an earlier process wrote for later steps are removed.

        Args:
            workdir: the run's folder, which exists.
            total_steps: at which the run ends.
            steps_per_epoch: steps of an epoch.
            start_step: the restored step, 0 for a new run.
            log_every: steps of a row.
            tensorboard: whether to write event files.
            process_index: of this process, if not `jax.process_index()`.
        """
        workdir = Path(workdir)
        self._steps_per_epoch, self._log_every = steps_per_epoch, log_every
        # Every process reads the file, while process 0 may already be writing to it.
        rows = read_rows(workdir / METRICS_FILE, start_step)
        self._last = {row["split"]: row for row in rows}
        self._pending: deque[_Step] = deque()
        self._window: list[_Finished] = []
        self._said_input_is_slow = False
        self._first = True  # whether the next step to end is the process's first
        self._last_end: float | None = None  # of a step; None if other work has come between
        self._file = self._progress = self._tensorboard = None
        if (jax.process_index() if process_index is None else process_index) == 0:
            self._file = MetricsFile(workdir / METRICS_FILE, rows)
            self._tensorboard = (
                EventFile(workdir / TENSORBOARD_DIR, start_step) if tensorboard else None
            )
            self._progress = ProgressLine(total_steps, steps_per_epoch, start_step)
        covered = self._last["train"]["step"] if "train" in self._last else 0
        if covered != start_step:
            self.message(
                f"{METRICS_FILE} ends at step {covered} and the run goes on from step "
                f"{start_step}: it lacks what lies between"
            )

    def train(
        self,
        step: int,
        metrics: Mapping[str, Any],
        *,
        clips: int,
        data_wait: float | int,
        times: Callable[[], StepTime],
    ) -> None:
        """Takes the metrics of a step that was just handed to the devices.

        Args:
            step: from 1.
            metrics: scalars, on the device or not. "loss" and "grad_norm" must be finite; "lr" is
                reported, the others are averaged.
            clips: of the global batch.
            data_wait: seconds for which the step waited for its batch.
            times: gives the step's times; called when the metrics have been read.

        Raises:
            NonFiniteLoss: for this step or one of the two before it.
        """
        for value in metrics.values():
            if isinstance(value, jax.Array):
                value.copy_to_host_async()
        self._pending.append(_Step(step, metrics, clips, data_wait, times))
        if self._progress is not None:
            self._progress.step(step)
        while len(self._pending) > _IN_FLIGHT:
            self._take_oldest()

    def flush(self) -> None:
        """Waits for the steps in flight and writes the open row.

        Call it before a checkpoint is saved, at the end of an epoch, and before stopping.

        Raises:
            NonFiniteLoss: see `train`.
        """
        while self._pending:
            self._take_oldest()
        self._close_window()
        self._last_end = None

    def validation(self, step: int, metrics: Mapping[str, float | int]) -> None:
        """Writes the row of a validation after `step`; `metrics` are numbers on the host."""
        self.flush()
        self._write({"step": step, "epoch": self._epoch(step), "split": "validation", **metrics})

    def last_row(self, split: str) -> dict[str, Any] | None:
        """The newest row of a split, also from before a restart.

        It tells whether the restored step has been validated.
        """
        return self._last.get(split)

    def status(self, text: str) -> None:
        """Shows what goes on between steps, in a terminal only."""
        if self._progress is not None:
            self._progress.status(text)

    def message(self, text: str) -> None:
        """Prints a line above the progress line."""
        if self._progress is not None:
            self._progress.message(text)

    def close(self) -> None:
        """Closes files and the progress line.

        Metrics that are still in flight are dropped: `flush` first if they matter.
        """
        for output in (self._progress, self._tensorboard, self._file):
            if output is not None:
                output.close()

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self.flush()
        finally:
            self.close()

    def _take_oldest(self) -> None:
        taken = self._pending.popleft()
        # Reading the numbers waits for the step to end.
        values = {name: float(np.asarray(value)) for name, value in taken.metrics.items()}
        wrong = next(
            (name for name in _MUST_BE_FINITE if not math.isfinite(values.get(name, 0.0))), None
        )
        if wrong is not None:
            # The open window holds finite steps only; the bad step gets a row of its own.
            self._close_window()
        self._window.append(self._finish(taken, values))
        if wrong is not None or taken.step % self._log_every == 0:
            self._close_window()
        if wrong is not None:
            raise NonFiniteLoss(taken.step, wrong, values[wrong])

    def _finish(self, step: "_Step", values: dict[str, float]) -> "_Finished":
        """Measures the time of a step that has just ended."""
        times = step.times()
        start = self._last_end
        if start is None:
            start = times.handed_over - step.data_wait
        self._last_end = times.ended
        seconds = max(0.0, times.ended - start)
        idle = min(seconds, max(0.0, times.handed_over - start))
        first, self._first = self._first, False
        return _Finished(
            step.step, values, step.clips, step.data_wait, None if first else seconds, idle
        )

    def _close_window(self) -> None:
        if self._window:
            step = self._window[-1].step
            row = {
                "step": step,
                "epoch": self._epoch(step),
                "split": "train",
                **_summary(self._window),
            }
            self._write(row)
            self._window = []
            self._note_slow_input(row)

    def _note_slow_input(self, row: Mapping[str, Any]) -> None:
        """Says once that the input is the bottleneck.

        The first epoch does not count: files are not in the system's cache yet, and workers start.
        """
        slow = row["epoch"] > 1 and row.get("data_wait", 0.0) > _LONG_WAIT
        if slow and not self._said_input_is_slow:
            self._said_input_is_slow = True
            self.message(
                f"note: input is the bottleneck: steps {row['step'] - row['steps'] + 1:,} to "
                f"{row['step']:,} waited for data for {row['data_wait']:.0%} of their time "
                f"(devices idle: {row['device_idle']:.0%}); raise data.workers (processes) or "
                "data.threads (of each) if there are cores for it"
            )

    def _write(self, row: dict[str, Any]) -> None:
        row = {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in row.items()
        }
        self._last[row["split"]] = row
        if self._file is not None:
            self._file.write(row)
            self._progress.row(row)
        if self._tensorboard is not None:
            self._tensorboard.write(row)

    def _epoch(self, step: int) -> int:
        return max(1, -(-step // self._steps_per_epoch))


@dataclass(frozen=True)
class _Step:
    """A step that the devices may still be computing; attributes as in `RunLog.train`."""

    step: int
    metrics: Mapping[str, Any]
    clips: int
    data_wait: float
    times: Callable[[], StepTime]


@dataclass(frozen=True)
class _Finished:
    """A step that has ended.

    Attributes:
        values: its metrics.
        seconds: of its time; None for the first step of the process, which compiled.
        device_idle: seconds of them in which the devices waited for it.
    """

    step: int
    values: Mapping[str, float]
    clips: int
    data_wait: float
    seconds: float | None
    device_idle: float


def _summary(window: Sequence[_Finished]) -> dict[str, Any]:
    """A training row's numbers."""
    values = [step.values for step in window]
    row: dict[str, Any] = {"steps": len(window)}
    for name in values[-1]:
        row[name] = math.fsum(step[name] for step in values) / len(values)
    if "lr" in row:
        row["lr"] = values[-1]["lr"]
    timed = [step for step in window if step.seconds is not None]
    seconds = sum(step.seconds for step in timed)
    if seconds > 0:
        row["clips_per_s"] = sum(step.clips for step in timed) / seconds
        row["steps_per_s"] = len(timed) / seconds
        row["data_wait"] = min(1.0, sum(step.data_wait for step in timed) / seconds)
        row["device_idle"] = sum(step.device_idle for step in timed) / seconds
    return row
