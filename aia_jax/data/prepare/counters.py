"""How much the worker processes of this machine have done, and what they do when their parent is gone."""

import multiprocessing
import os
import signal
import threading
from multiprocessing.connection import wait


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
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends its workers itself
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Otherwise the workers of a killed run would go on writing beside those of the next run."""
    wait([multiprocessing.parent_process().sentinel])
    os._exit(1)


def count(videos: int, num_bytes: int) -> None:
    """Tells the parent what this process has just done."""
    if _counters is not None:  # a cluster's workers have none
        _counters.add(videos, num_bytes)
