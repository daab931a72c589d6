"""What steps cost: a trace of some of them, and the devices' idle time between them."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

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


class DeviceIdle:
    """Times the gaps on the devices: from the end of a step until the next is handed to them.

    A thread of its own waits for each step's results, so the loop hands over steps as early as
    without it. It sees this process's devices only, and no gap within a step, such as a wait for
    another host.
    """

    def __init__(self):
        self._waiter = ThreadPoolExecutor(1, thread_name_prefix="device-idle")
        self._handed_over = 0.0
        self._ended: float | None = None  # end of the step before; set by the waiting thread

    def before_step(self) -> None:
        """Marks the moment at which a step is handed to the devices."""
        self._handed_over = time.monotonic()

    def after_step(self, results: Any) -> Callable[[], float]:
        """Takes the results of the step just handed over.

        Returns:
            A function that waits for the step to end. It returns the seconds for which the devices
            were idle before the step; 0 for the first step.
        """
        return self._waiter.submit(self._wait, self._handed_over, results).result

    def _wait(self, handed_over: float, results: Any) -> float:
        before, self._ended = self._ended, None  # stays None if waiting raises
        jax.block_until_ready(results)
        self._ended = time.monotonic()
        return 0.0 if before is None else max(0.0, handed_over - before)
