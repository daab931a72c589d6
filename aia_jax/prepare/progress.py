"""How far the preparation is: a bar on a terminal, a line now and then elsewhere."""

import multiprocessing
import os
import signal
import sys
import threading
import time
from multiprocessing.connection import wait

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_LINE_EVERY = 10.0  # seconds, where there is no terminal


class ProgressReport:
    """Shows videos done, rate, megabytes and the time that is left. A context manager; writes to
    stderr.
    """

    def __init__(self, total: int, doing: str = "preparing"):
        self._total, self._start, self._next_line = (
            total,
            time.monotonic(),
            time.monotonic() + _LINE_EVERY,
        )
        self._bar = Progress(
            TextColumn(doing),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("videos  {task.fields[rate]:.1f}/s  {task.fields[megabytes]:,.0f} MB  ETA"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=not sys.stderr.isatty(),
        )
        self._task = self._bar.add_task(doing, total=total, rate=0.0, megabytes=0.0)

    def __enter__(self) -> "ProgressReport":
        self._bar.start()
        return self

    def __exit__(self, *exception) -> None:
        self._bar.stop()

    def update(self, videos: int, num_bytes: int) -> None:
        """Shows the state: videos done and bytes written so far."""
        now = time.monotonic()
        rate = videos / max(now - self._start, 1e-3)
        self._bar.update(self._task, completed=videos, rate=rate, megabytes=num_bytes / 1e6)
        if self._bar.disable and now >= self._next_line:
            self._next_line = now + _LINE_EVERY
            left = f"{(self._total - videos) / rate:,.0f} s left" if videos else "starting"
            print(
                f"{videos:,}/{self._total:,} videos, {rate:.1f}/s, {num_bytes / 1e6:,.0f} MB, "
                f"{left}",
                file=sys.stderr,
                flush=True,
            )


class Counters:
    """Videos and bytes done so far, shared by the processes of this machine."""

    def __init__(self):
        self._values = multiprocessing.get_context("spawn").Array("q", 2)

    def add(self, videos: int, num_bytes: int) -> None:
        with self._values.get_lock():
            self._values[0] += videos
            self._values[1] += num_bytes

    def read(self) -> tuple[int, int]:
        """(videos, bytes)"""
        with self._values.get_lock():
            return self._values[0], self._values[1]


_counters: Counters | None = None  # of this worker process


def start_worker(counters: Counters) -> None:
    """Sets up a worker process of the pool."""
    global _counters
    _counters = counters
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C reaches the whole group; the parent ends its workers itself
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Otherwise the workers of a killed run would go on writing beside those of the next run."""
    wait([multiprocessing.parent_process().sentinel])
    os._exit(1)


def count(videos: int, num_bytes: int) -> None:
    """Tells the parent what this process has just done."""
    if _counters is not None:  # a cluster's workers have none
        _counters.add(videos, num_bytes)
