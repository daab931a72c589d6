"""Where blocks of rows are made: in this process or in worker processes, through grain, the same
rows either way.
"""

import multiprocessing
import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import grain
import numpy as np
from absl import flags

from aia_jax.data.shared_blocks import BlockRing
from aia_jax.errors import UserError

Batch = dict[str, np.ndarray]


@runtime_checkable
class Rows(Protocol):
    """What the rows of global batches hold. Sent to worker processes."""

    clip_shape: tuple[int, ...]

    def fields(self, count: int) -> Batch:
        """The arrays beside the clips, for a number of rows."""

    def fill(self, step: int, row: int, place: int, clip: np.ndarray, fields: Batch) -> None:
        """Makes row `row` of global batch `step`: its pixels in `clip`, the rest in
        `fields[…][place]`.
        """


def iterate_blocks(
    rows: Rows, block: range, steps: range, *, workers: int, threads: int, prefetch: int
) -> Iterator[Batch]:
    """Yields one host's block of every global batch, in order.

    Args:
        rows: what is in them.
        block: the rows of each global batch that are this host's.
        steps: the global batches.
        workers: processes that make blocks; 0 makes them in this one.
        threads: that make rows, in each of these processes.
        prefetch: finished blocks that wait, for each process; 0 (without workers only) makes each
            when it is asked for.

    Raises:
        UserError: if the numbers of workers and waiting blocks make no sense; at once.
    """
    if workers < 0 or prefetch < 0 or (workers and not prefetch):
        raise UserError(
            f"data.workers={workers}, data.prefetch={prefetch}: neither is negative, and workers "
            "need prefetch of 1 or more"
        )
    make = _BlockMaker(rows, block, threads)
    dataset = grain.MapDataset.range(steps.start, steps.stop)
    if workers:
        return _from_workers(dataset, make, steps.start, workers, prefetch)
    return _from_here(dataset.map(make).to_iter_dataset(_read_options(prefetch)))


class _BlockMaker:
    """Makes a host's block of a global batch; the step is all it needs. Sent to worker processes."""

    def __init__(self, rows: Rows, block: range, threads: int):
        self.rows, self.block, self._threads = rows, block, threads
        self._pool = None

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_pool": None}

    @property
    def clips_shape(self) -> tuple[int, ...]:
        return len(self.block), *self.rows.clip_shape

    def __call__(self, step: int) -> Batch:
        clips = np.empty(self.clips_shape, np.uint8)
        return {"clips": clips} | self.fill(step, clips)

    def fill(self, step: int, clips: np.ndarray) -> Batch:
        """Fills `clips` and returns the rest."""
        step = int(step)
        fields = self.rows.fields(len(self.block))

        def fill_row(place: int) -> None:
            self.rows.fill(step, self.block[place], place, clips[place], fields)

        for _ in self._map(fill_row, range(len(self.block))):
            pass
        return fields

    def _map(self, fill_row: Callable[[int], None], places: range) -> Iterator[None]:
        if self._threads <= 1:
            return map(fill_row, places)
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="rows")
        return self._pool.map(fill_row, places)


@dataclass(frozen=True)
class _WorkerBlockMaker:
    """Puts the pixels of a block in the ring, where the main process finds them, and returns the
    rest.
    """

    make: _BlockMaker
    ring: BlockRing
    first_step: int

    def __reduce__(self) -> tuple:
        # Grain sends what it maps by cloudpickle, which takes a class method's code along where
        # pickle takes its name.
        return _from_pickle, (pickle.dumps((self.make, self.ring, self.first_step)),)

    def __call__(self, step: int) -> Batch:
        return self.make.fill(step, self.ring.to_fill(int(step) - self.first_step))


def _from_pickle(content: bytes) -> _WorkerBlockMaker:
    return _WorkerBlockMaker(*pickle.loads(content))


def _from_here(dataset: grain.IterDataset) -> Iterator[Batch]:
    iterator = iter(dataset)
    try:
        yield from iterator
    finally:
        iterator.close()


def _from_workers(
    steps: grain.MapDataset, make: _BlockMaker, first_step: int, workers: int, prefetch: int
) -> Iterator[Batch]:
    if (
        not flags.FLAGS.is_parsed()
    ):  # grain reads flags to start a process; a program without absl's app.run has not parsed them
        flags.FLAGS.mark_as_parsed()
    ring = BlockRing(
        make.clips_shape, workers, depth=prefetch + 1
    )  # one is being filled while `prefetch` wait
    dataset = grain.experimental.WithOptionsIterDataset(
        steps.map(_WorkerBlockMaker(make, ring, first_step)).to_iter_dataset(_read_options(0)),
        grain.experimental.DatasetOptions(
            min_shm_size=sys.maxsize
        ),  # what is not in the ring is small, and goes through a pipe
    )
    options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=prefetch)
    iterator = iter(dataset.mp_prefetch(options, worker_init_fn=_start_worker))
    try:
        for number, fields in enumerate(iterator):
            yield {"clips": ring.take(number)} | fields
    finally:
        ring.close()
        iterator.close()


def _read_options(prefetch: int) -> grain.ReadOptions:
    """One thread that makes blocks ahead, or none: then a block is made when it is asked for."""
    return grain.ReadOptions(num_threads=min(prefetch, 1), prefetch_buffer_size=prefetch)


def _start_worker(worker_index: int, worker_count: int) -> None:
    """Leaves signals to the main process, which may want a few more batches before it saves, and
    ends with it, even if it is killed.
    """
    del worker_index, worker_count
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)
