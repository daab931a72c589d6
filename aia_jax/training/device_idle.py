"""How long the devices had nothing to do between steps."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax


class DeviceIdle:
    """Times the gaps on the devices: from the end of a step to the handing over of the next, where that comes later.

    A thread waits for each step's results; nothing else does, so steps are handed over as early as without it. What is seen is this
    process's devices, and a gap within a step (waiting for another host, say) is not seen.
    """

    def __init__(self):
        self._waiter = ThreadPoolExecutor(1, thread_name_prefix="device-idle")
        self._handed_over = 0.0
        self._ended: float | None = None  # of the step before, on the waiting thread

    def before_step(self) -> None:
        """Marks the moment at which a step is handed to the devices."""
        self._handed_over = time.monotonic()

    def after_step(self, results: Any) -> Callable[[], float]:
        """Takes the results of the step just handed over.

        Returns:
            What waits for the step to end and gives the seconds for which the devices were idle before it; 0 for the first step.
        """
        return self._waiter.submit(self._wait, self._handed_over, results).result

    def _wait(self, handed_over: float, results: Any) -> float:
        before, self._ended = self._ended, None  # if waiting fails there is no end to count from
        jax.block_until_ready(results)
        self._ended = time.monotonic()
        return 0.0 if before is None else max(0.0, handed_over - before)
