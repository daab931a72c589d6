"""Asking a run to stop: SIGTERM, Ctrl-C, or a preemption notice to any of its hosts."""

import signal
from types import FrameType, TracebackType

import jax
from jax.experimental import multihost_utils

from aia_jax.errors import EXIT_FAILED
from aia_jax.processes.ending import END_SECONDS, end_within, ignore_stop_signals


class StopRequest:
    """Remembers that the process was asked to stop, so that the loop can save first.

    Use it in a `with` block. On one host it takes SIGTERM and the first Ctrl-C; a second Ctrl-C
    interrupts at once, and ends the process within half a minute even if a thread is stuck. On
    several hosts JAX's preemption service hears SIGTERM on any of them and has all hosts stop at
    the same step.
    """

    def __init__(self) -> None:
        self._asked = False
        self._several = jax.process_count() > 1
        self._replaced: dict[int, object] = {}

    def at(self, step: int) -> bool:
        """Whether to stop after `step`.

        Every host must ask after every step: the hosts agree on one step, and the answer is true
        at that step alone.
        """
        return multihost_utils.reached_preemption_sync_point(step) if self._several else self._asked

    @property
    def now(self) -> bool:
        """Whether to break off work between two steps, such as a validation.

        On several hosts it is never true, because they could not agree.
        """
        return self._asked

    def __enter__(self) -> "StopRequest":
        if not self._several:
            self._replaced = {
                number: signal.signal(number, self._ask)
                for number in (signal.SIGTERM, signal.SIGINT)
            }
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._replaced.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self._asked:
            self._replaced.clear()  # a third one shall not interrupt the end
            ignore_stop_signals()
            end_within(END_SECONDS, EXIT_FAILED)
            raise KeyboardInterrupt
        self._asked = True
