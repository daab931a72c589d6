"""Shared memory that worker processes fill and the main process reads: a ring for each worker.

Grain hands every array over in a new piece of shared memory. New memory costs a page fault each
4 kB, which on a virtual machine is a third of the whole work of a clip; and it lies in /dev/shm, of
which a container has 64 MB. The memory here is used again and again, and lies in no file system.
"""

import mmap
import os
import tempfile
import time
import weakref
from pathlib import Path

import numpy as np

# Before the blocks lies an int64 that says that the ring is closed, and then for each worker three:
# how many of its blocks the main process has taken, its process id, and its signs of life.
_FIELDS = 3
_POLL = 0.005  # seconds


class RingClosed(Exception):
    """The main process wants no more blocks."""


class BlockRing:
    """Numbered uint8 blocks of one shape, from W workers to the main process.

    Worker n of W fills blocks n, n + W, n + 2W, …; the main process takes all blocks in order. Each
    worker has `depth` slots, which it fills in turn: it waits before it would overwrite a block
    that has not been taken. The object goes to worker processes by pickling, and opens the same
    memory there.
    """

    def __init__(self, shape: tuple[int, ...], workers: int, depth: int):
        self._shape, self.workers, self._depth = shape, workers, depth
        size = _header_bytes(workers) + workers * depth * int(np.prod(shape))
        try:
            file = os.memfd_create("aia_jax batches")
            # The kernel frees this memory with the last process that uses it, however that ends.
            self._path = f"/proc/{os.getpid()}/fd/{file}"
            weakref.finalize(self, os.close, file)
        except AttributeError:  # not on Linux
            file, self._path = tempfile.mkstemp()
            weakref.finalize(self, Path(self._path).unlink)
            weakref.finalize(self, os.close, file)
        os.ftruncate(file, size)
        self._map()

    def __getstate__(self) -> tuple:
        return self._shape, self.workers, self._depth, self._path

    def __setstate__(self, state: tuple) -> None:
        self._shape, self.workers, self._depth, self._path = state
        self._map()

    def _map(self) -> None:
        with open(self._path, "r+b") as file:  # noqa: PTH123 (a descriptor's path cannot be resolved)
            memory = mmap.mmap(file.fileno(), 0)
        if hasattr(mmap, "MADV_HUGEPAGE"):
            memory.madvise(mmap.MADV_HUGEPAGE)
        header = np.frombuffer(memory, np.int64, 1 + _FIELDS * self.workers)
        self._closed = header[:1]
        self._taken, self._pids, self._signs = header[1:].reshape(_FIELDS, self.workers)
        self._blocks = np.frombuffer(memory, np.uint8, offset=_header_bytes(self.workers)).reshape(
            self.workers, self._depth, *self._shape
        )

    def register(self, worker: int) -> None:
        """In worker `worker`: tells the main process which process it is."""
        self._pids[worker] = os.getpid()

    def show_life(self, worker: int) -> None:
        """In worker `worker`: shows the main process that it works."""
        self._signs[worker] += 1

    def check_open(self) -> None:
        """In a worker: raises `RingClosed` if the main process wants no more blocks."""
        if self._closed[0]:
            raise RingClosed

    def wait_for_slot(self, number: int) -> np.ndarray:
        """In a worker: waits until block `number` may be written.

        Returns:
            The memory of the block, which still holds an older block's pixels.

        Raises:
            RingClosed: if the main process has closed the ring meanwhile.
        """
        turn, worker = divmod(number, self.workers)
        while self._taken[worker] <= turn - self._depth:
            self.check_open()
            time.sleep(_POLL)
        return self._blocks[worker, turn % self._depth]

    def take(self, number: int) -> np.ndarray:
        """In the main process: copies a block that has been filled, and frees its slot."""
        turn, worker = divmod(number, self.workers)
        block = self._blocks[worker, turn % self._depth].copy()
        self._taken[worker] = turn + 1
        return block

    def pid(self, worker: int) -> int:
        """In the main process: the process id of a worker; 0 as long as it has not started."""
        return int(self._pids[worker])

    def signs(self, worker: int) -> int:
        """In the main process: a number that changes when a worker shows life."""
        return int(self._signs[worker])

    def close(self) -> None:
        """In the main process: ends the workers that wait for a slot."""
        self._closed[0] = 1


def _header_bytes(workers: int) -> int:
    """Bytes before the blocks: whole pages."""
    return -(-8 * (1 + _FIELDS * workers) // mmap.PAGESIZE) * mmap.PAGESIZE
