"""Notices that a worker process is dead, stopped or stuck, and says so in one line."""

import datetime
import signal
import sys
import threading
import time
from collections.abc import Callable, Hashable
from pathlib import Path

from aia_jax.errors import RunFailed

WARN_SECONDS = 60.0  # of silence, after which one line names the worker
END_SECONDS = 600.0  # of silence, after which the run ends

_LONGEST_STEP = 5.0  # seconds of silence that one look can add
_SHOW_SECONDS = 1.0
_LEAST_WORK = 0.01  # seconds of computing in `_SHOW_SECONDS` that count as a sign of life

_FAULTS = (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE)


class WorkerLost(RunFailed):
    """A worker that the run waits for is dead, or has been silent for too long."""


class SilenceWatch:
    """Counts for how long a worker has shown no sign of life, while somebody waits for it.

    Only time in which this process looks again and again counts. So a machine that slept, or a
    whole run that was stopped and went on, is no silence.

    Args:
        warn_after: seconds of silence after which one line says so.
        end_after: seconds of silence that end the run.
    """

    def __init__(self, warn_after: float = WARN_SECONDS, end_after: float = END_SECONDS):
        self._warn_after, self._end_after = warn_after, end_after
        self._sign: Hashable = None
        self._silent, self._warned = 0.0, False
        self._last_look = time.monotonic()

    def check(self, sign: Hashable, describe: Callable[[], str]) -> None:
        """Looks at the worker once more; call it about once a second or more often.

        Args:
            sign: anything that differs whenever the worker has shown life since the last call.
            describe: names the worker and what is known of its state.

        Raises:
            WorkerLost: after `end_after` seconds of silence; the text has no remedy yet.
        """
        now = time.monotonic()
        if sign == self._sign:
            self._silent += min(now - self._last_look, _LONGEST_STEP)
        else:
            self._sign, self._silent, self._warned = sign, 0.0, False
        self._last_look = now
        if self._silent < self._warn_after or (self._warned and self._silent < self._end_after):
            return
        since = datetime.datetime.now() - datetime.timedelta(seconds=self._silent)
        line = (
            f"{describe()} has shown no sign of life since {since:%H:%M:%S}, for "
            f"{format_seconds(self._silent)}"
        )
        if self._silent >= self._end_after:
            raise WorkerLost(line)
        self._warned = True
        print(
            f"note: {line}; after {format_seconds(self._end_after)} the run ends",
            file=sys.stderr,
            flush=True,
        )


def show_life_while_computing(show: Callable[[], None]) -> None:
    """In a worker: starts a thread that calls `show` each second in which the process computes.

    So a worker that decodes one video for an hour shows life. One that is stopped, or waits for a
    disk, does not.
    """

    def run() -> None:
        before = time.process_time()
        while True:
            time.sleep(_SHOW_SECONDS)
            now = time.process_time()
            if now - before >= _LEAST_WORK:
                show()
            before = now

    threading.Thread(target=run, name="signs-of-life", daemon=True).start()


def describe_state(pid: int) -> str:
    """What the system says of a process that shows no life; empty if it says nothing helpful."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):  # not on Linux, or the process is gone
        return ""
    return {
        "T": f", which is stopped (kill -CONT {pid} lets it go on),",
        "t": ", which is stopped by a debugger,",
        "D": ", which waits for a disk,",
        "Z": ", which has ended,",
    }.get(state, "")


def describe_death(exit_code: int | None) -> str:
    """How a process ended, by the `exitcode` of `multiprocessing`, and the likely cause."""
    if exit_code == -signal.SIGKILL:
        return "was killed by SIGKILL, most likely by the system because memory ran out"
    if exit_code is not None and exit_code < 0:
        name = signal.Signals(-exit_code).name
        cause = ", a fault in a library" if -exit_code in _FAULTS else ""
        return f"was killed by {name}{cause}"
    return f"ended with exit status {exit_code}" if exit_code is not None else "has died"


def format_seconds(seconds: float) -> str:
    """A duration for people: "60 s", "10 minutes"."""
    return f"{seconds / 60:.0f} minutes" if seconds >= 120 else f"{seconds:.3g} s"
