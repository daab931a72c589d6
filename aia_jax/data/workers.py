"""Makes batches in this process or in worker processes, through grain: the same rows either way."""

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
class RowMaker(Protocol):
    """Makes single rows of global batches: a clip and what belongs to it. Sent to workers."""

    clip_shape: tuple[int, ...]

    def new_fields(self, count: int) -> Batch:
        """Makes the arrays beside the clips, of `count` rows along the first axis, to be filled."""

    def fill_row(self, step: int, row: int, slot: int, clip: np.ndarray, fields: Batch) -> None:
        """Makes one row.

        Args:
            step: number of the global batch.
            row: which row of it.
            slot: the entry of each of the `fields` to fill.
            clip: uint8 [*clip_shape], overwritten.
            fields: from `new_fields`.
        """


def iterate_blocks(
    row_maker: RowMaker, block: range, steps: range, *, workers: int, threads: int, prefetch: int
) -> Iterator[Batch]:
    """Yields one host's block of rows of every global batch, in order.

    Args:
        row_maker: makes the rows.
        block: the rows of each global batch that are this host's.
        steps: numbers of the global batches.
        workers: processes that make blocks; 0 makes them in this process.
        threads: of each of these processes, which make its rows.
        prefetch: finished blocks that wait, for each process; 0 (without workers only) makes each
            block when it is asked for.

    Raises:
        UserError: if the numbers of workers and waiting blocks make no sense; at once.
    """
    if workers < 0 or prefetch < 0 or (workers and not prefetch):
        raise UserError(
            f"data.workers={workers}, data.prefetch={prefetch}: neither is negative, and workers "
            "need prefetch of 1 or more"
        )
    make_block = _BlockMaker(row_maker, block, threads)
    dataset = grain.MapDataset.range(steps.start, steps.stop)
    if workers:
        return _iterate_with_workers(dataset, make_block, steps.start, workers, prefetch)
    return _iterate_here(dataset.map(make_block).to_iter_dataset(_read_options(prefetch)))


class _BlockMaker:
    """Makes a host's block of a global batch from the batch's number. Sent to workers."""

    def __init__(self, row_maker: RowMaker, block: range, threads: int):
        self._row_maker, self._block, self._threads = row_maker, block, threads
        self._pool = None  # a process makes its own, as threads cannot be sent

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_pool": None}

    @property
    def clips_shape(self) -> tuple[int, ...]:
        return len(self._block), *self._row_maker.clip_shape

    def __call__(self, step: int) -> Batch:
        clips = np.empty(self.clips_shape, np.uint8)
        return {"clips": clips} | self.fill(step, clips)

    def fill(self, step: int, clips: np.ndarray) -> Batch:
        """Fills `clips`, uint8 [*clips_shape], and returns the arrays that belong to them."""
        step = int(step)
        fields = self._row_maker.new_fields(len(self._block))

        def fill_row(slot: int) -> None:
            self._row_maker.fill_row(step, self._block[slot], slot, clips[slot], fields)

        for _ in self._map(fill_row, range(len(self._block))):
            pass  # an exception of a thread is raised here
        return fields

    def _map(self, fill_row: Callable[[int], None], slots: range) -> Iterator[None]:
        if self._threads <= 1:
            return map(fill_row, slots)
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="rows")
        return self._pool.map(fill_row, slots)


@dataclass(frozen=True)
class _WorkerBlockMaker:
    """Writes a block's pixels into shared memory and returns the arrays that belong to them."""

    make_block: _BlockMaker
    ring: BlockRing
    first_step: int

    def __reduce__(self) -> tuple:
        # Grain sends the functions that it maps by cloudpickle, which takes along the code of a
        # class where pickle takes its name. So this object travels as bytes that pickle made.
        return _from_pickle, (pickle.dumps((self.make_block, self.ring, self.first_step)),)

    def __call__(self, step: int) -> Batch:
        return self.make_block.fill(step, self.ring.wait_for_slot(int(step) - self.first_step))


def _from_pickle(content: bytes) -> _WorkerBlockMaker:
    return _WorkerBlockMaker(*pickle.loads(content))


def _iterate_here(dataset: grain.IterDataset) -> Iterator[Batch]:
    iterator = iter(dataset)
    try:
        yield from iterator
    finally:
        iterator.close()


def _iterate_with_workers(
    steps: grain.MapDataset, make_block: _BlockMaker, first_step: int, workers: int, prefetch: int
) -> Iterator[Batch]:
    # Grain reads absl flags to start a process. A program without absl's app.run has not parsed
    # them.
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
    # Of each worker, `prefetch` blocks wait while one more is filled.
    ring = BlockRing(make_block.clips_shape, workers, depth=prefetch + 1)
    dataset = grain.experimental.WithOptionsIterDataset(
        steps.map(_WorkerBlockMaker(make_block, ring, first_step)).to_iter_dataset(
            _read_options(0)
        ),
        # The arrays that are not in the ring are small: they go through a pipe.
        grain.experimental.DatasetOptions(min_shm_size=sys.maxsize),
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
    """One thread that makes `prefetch` blocks ahead; with 0, a block is made when asked for."""
    return grain.ReadOptions(num_threads=min(prefetch, 1), prefetch_buffer_size=prefetch)


def _start_worker(worker_index: int, worker_count: int) -> None:
    """Makes a worker ignore SIGINT and SIGTERM, and end when the main process ends.

    The main process may want a few more batches after a signal, before it saves. The worker also
    ends if the main process is killed.
    """
    del worker_index, worker_count
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)
