"""Memory in which each worker process of a pool tells the main process what it does."""

import multiprocessing
import os
from dataclasses import dataclass
from typing import Any

_FIELDS = 6  # of a worker's slot, in the order of `WorkerSlot`


@dataclass(frozen=True)
class WorkerSlot:
    """What a worker has told.

    Attributes:
        pid: its process id; 0 as long as it has not started.
        signs: changes when it shows life.
        job: number of its job + 1; 0 while it has none.
        done: videos of that job that are done.
        videos, num_bytes: done by this worker, in all jobs.
    """

    pid: int
    signs: int
    job: int
    done: int
    videos: int
    num_bytes: int


class WorkerSlots:
    """Slots of all workers of a pool. The object goes to worker processes when they start.

    Only its worker writes a slot. So there is no lock, which a worker could hold when it is stopped
    or killed.
    """

    def __init__(self, workers: int):
        context = multiprocessing.get_context("spawn")
        self._values = context.RawArray("q", workers * _FIELDS)
        self._started = context.Value("i", 0)
        self._offset = 0  # of this process's slot, in a worker

    def take_slot(self) -> None:
        """In a worker: takes a slot of its own."""
        with self._started.get_lock():
            self._offset = _FIELDS * self._started.value
            self._started.value += 1
        self._values[self._offset] = os.getpid()

    def show_life(self) -> None:
        self._values[self._offset + 1] += 1

    def begin_job(self, number: int) -> None:
        self._values[self._offset + 3] = 0
        self._values[self._offset + 2] = number + 1
        self.show_life()

    def end_job(self) -> None:
        self._values[self._offset + 2] = 0
        self.show_life()

    def add(self, videos: int, num_bytes: int) -> None:
        """In a worker: adds to what its job, and the worker itself, has done."""
        for field, amount in ((3, videos), (4, videos), (5, num_bytes)):
            self._values[self._offset + field] += amount
        self.show_life()

    def read(self) -> list[WorkerSlot]:
        """In the main process: the slots of all workers, of those that never start too."""
        values = list(self._values)
        return [
            WorkerSlot(*values[start : start + _FIELDS]) for start in range(0, len(values), _FIELDS)
        ]


_slots: WorkerSlots | None = None  # set in each worker process of a `LocalPool`


def use_slots(slots: WorkerSlots) -> None:
    """In a worker: takes a slot, to which `run_in_slot` and `count_progress` write."""
    global _slots
    slots.take_slot()
    _slots = slots


def run_in_slot(number: int, function: Any, job: Any) -> Any:
    """In a worker: returns `function(job)`, and tells the main process which job this is."""
    _slots.begin_job(number)
    try:
        return function(job)
    finally:
        _slots.end_job()


def count_progress(videos: int, num_bytes: int) -> None:
    """Adds to the progress what this worker process has just done."""
    if _slots is not None:  # the workers of a cluster have none
        _slots.add(videos, num_bytes)
