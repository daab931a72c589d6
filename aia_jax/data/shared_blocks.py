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

# Bytes before the blocks: int64 [1 + workers]. The first says that the ring is closed, each of the
# others how many blocks of a worker the main process has taken.
_HEADER = mmap.PAGESIZE
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
        self._shape, self._workers, self._depth = shape, workers, depth
        size = _HEADER + workers * depth * int(np.prod(shape))
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
        return self._shape, self._workers, self._depth, self._path

    def __setstate__(self, state: tuple) -> None:
        self._shape, self._workers, self._depth, self._path = state
        self._map()

    def _map(self) -> None:
        with open(self._path, "r+b") as file:  # noqa: PTH123 (a descriptor's path cannot be resolved)
            memory = mmap.mmap(file.fileno(), 0)
        if hasattr(mmap, "MADV_HUGEPAGE"):
            memory.madvise(mmap.MADV_HUGEPAGE)
        header = np.frombuffer(memory, np.int64, _HEADER // 8)
        self._closed, self._taken = header[:1], header[1 : 1 + self._workers]
        self._blocks = np.frombuffer(memory, np.uint8, offset=_HEADER).reshape(
            self._workers, self._depth, *self._shape
        )

    def wait_for_slot(self, number: int) -> np.ndarray:
        """In a worker: waits until block `number` may be written.

        Returns:
            The memory of the block, which still holds an older block's pixels.

        Raises:
            RingClosed: if the main process has closed the ring meanwhile.
        """
        turn, worker = divmod(number, self._workers)
        while self._taken[worker] <= turn - self._depth:
            if self._closed[0]:
                raise RingClosed
            time.sleep(_POLL)
        return self._blocks[worker, turn % self._depth]

    def take(self, number: int) -> np.ndarray:
        """In the main process: copies a block that has been filled, and frees its slot."""
        turn, worker = divmod(number, self._workers)
        block = self._blocks[worker, turn % self._depth].copy()
        self._taken[worker] = turn + 1
        return block

    def close(self) -> None:
        """In the main process: ends the workers that wait for a slot."""
        self._closed[0] = 1
