"""What steps cost: a trace of some of them, and when each of them was computed."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import jax

PROFILE_DIR = "profile"


class Profile:
    """Traces the steps from `start` to `stop`, both included, into a folder.

    The files under plugins/profile there are what TensorBoard's profile plug-in (package xprof)
    shows; ui.perfetto.dev opens the *.trace.json.gz among them. A run that goes on after `start`
    traces from its first step; one that ends before `stop` keeps what it has. Every process traces
    its own devices. Steps that are traced run slower.

    Attributes:
        folder: where the files go.
    """

    def __init__(self, folder: str | Path, start: int, stop: int):
        """Arms the trace.

        Args:
            folder: for the files; made when the trace is written.
            start: first step traced, from 1; 0 traces none.
            stop: last step traced.
        """
        self.folder, self._start, self._stop = Path(folder), start, stop
        self._step: Any = None  # the annotation of the step under way, while tracing
        self._tracing = False

    def before(self, step: int) -> None:
        """Starts the trace if it begins here.

        Call it before the step's batch is taken: the trace then shows the wait for data too.
        """
        if not self._tracing and self._start and self._start <= step <= self._stop:
            jax.profiler.start_trace(self.folder)
            self._tracing = True
        if self._tracing:
            self._step = jax.profiler.StepTraceAnnotation("train", step_num=step)
            self._step.__enter__()

    def after(self, step: int, results: Any) -> bool:
        """Ends the trace after its last step, when the devices have computed `results`.

        Returns:
            Whether the trace was written just now.
        """
        if not self._tracing:
            return False
        self._step.__exit__(None, None, None)
        if step < self._stop:
            return False
        jax.block_until_ready(results)
        self.close()
        return True

    def close(self) -> None:
        """Writes what was traced, if a trace is under way."""
        if self._tracing:
            self._tracing = False
            jax.profiler.stop_trace()

    def __enter__(self) -> "Profile":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class StepTime(NamedTuple):
    """When a step was handed to the devices, and when they had computed it.

    Seconds of `time.monotonic`.
    """

    handed_over: float
    ended: float


class StepClock:
    """Notes when each step is handed to the devices and when it ends there.

    A thread of its own waits for each step's results, so the loop hands over steps as early as
    without it. It sees this process's devices only.
    """

    def __init__(self):
        self._waiter = ThreadPoolExecutor(1, thread_name_prefix="step-clock")
        self._handed_over = 0.0

    def before_step(self) -> None:
        """Marks the moment at which a step is handed to the devices."""
        self._handed_over = time.monotonic()

    def after_step(self, results: Any) -> Callable[[], StepTime]:
        """Takes the results of the step just handed over.

        Returns:
            A function that waits for the step to end and returns its times. It raises what the
            devices raise.
        """
        return self._waiter.submit(_wait, self._handed_over, results).result


def _wait(handed_over: float, results: Any) -> StepTime:
    jax.block_until_ready(results)
    return StepTime(handed_over, time.monotonic())
