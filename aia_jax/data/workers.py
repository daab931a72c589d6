"""Makes batches in this process or in worker processes, through grain: the same rows either way."""

import multiprocessing
import os
import pickle
import re
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Protocol, runtime_checkable

import grain
import numpy as np
from absl import flags

from aia_jax.data.blocks import Batch, BlockMaker, RowMaker
from aia_jax.data.shared_blocks import BlockRing, RingClosed
from aia_jax.errors import UserError
from aia_jax.processes.children import deaf_children, start_child
from aia_jax.processes.silence import WorkerLost, describe_death, describe_state

_END_SECONDS = 5.0  # that workers have to end by themselves; a row takes far less
_GRAIN_SAYS_DEAD = re.compile(r"terminated unexpectedly with exit code (-?\d+)")


@runtime_checkable
class Blocks(Protocol):
    """An iterator of blocks that another thread can watch and interrupt."""

    def __iter__(self) -> Iterator[Batch]: ...

    def __next__(self) -> Batch: ...

    def sign_of_life(self) -> tuple[int, ...]:
        """Differs whenever whoever makes the next block has shown life; from any thread."""

    def describe(self) -> str:
        """Names whoever makes the next block, with its state; from any thread."""

    def interrupt(self) -> None:
        """Ends a `__next__` of another thread, by an exception, within seconds; from any thread."""

    def close(self) -> None:
        """Ends threads and processes; in the thread that iterates."""


def iterate_blocks(
    row_maker: RowMaker, block: range, steps: range, *, workers: int, threads: int, prefetch: int
) -> Blocks:
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
        WorkerLost: a worker process has died; from the iterator.
    """
    if workers < 0 or prefetch < 0 or (workers and not prefetch):
        raise UserError(
            f"data.workers={workers}, data.prefetch={prefetch}: neither is negative, and workers "
            "need prefetch of 1 or more"
        )
    make_block = BlockMaker(row_maker, block, threads)
    if workers:
        return _WorkerBlocks(make_block, steps, workers, prefetch)
    return _LocalBlocks(make_block, steps, prefetch)


class _LocalBlocks:
    """Blocks that threads of this process make (`Blocks`)."""

    def __init__(self, make_block: BlockMaker, steps: range, prefetch: int):
        self._make_block = make_block
        self._rows, self._closed = 0, False
        dataset = grain.MapDataset.range(steps.start, steps.stop).map(self._make)
        self._iterator = iter(dataset.to_iter_dataset(_read_options(prefetch)))

    def _make(self, step: int) -> Batch:
        clips = np.empty(self._make_block.clips_shape, np.uint8)
        return {"clips": clips} | self._make_block.fill(step, clips, self._before_row)

    def _before_row(self) -> None:
        if self._closed:
            raise RingClosed
        self._rows += 1

    def __iter__(self) -> "_LocalBlocks":
        return self

    def __next__(self) -> Batch:
        return next(self._iterator)

    def sign_of_life(self) -> tuple[int, ...]:
        return (self._rows,)

    def describe(self) -> str:
        return f"the reading of videos in this process ({os.getpid()})"

    def interrupt(self) -> None:
        self._closed = True

    def close(self) -> None:
        self.interrupt()
        self._iterator.close()


class _WorkerBlocks:
    """Blocks that worker processes make, each every W-th (`Blocks`)."""

    def __init__(self, make_block: BlockMaker, steps: range, workers: int, prefetch: int):
        self._make_block, self._steps = make_block, steps
        self._workers, self._prefetch = workers, prefetch
        self._ring: BlockRing | None = None  # made with the processes, when a block is asked for
        self._iterator = None
        self._number = 0  # of the next block
        self._closed = False
        self._killer = threading.Timer(_END_SECONDS, self._kill_workers)

    def __iter__(self) -> "_WorkerBlocks":
        return self

    def __next__(self) -> Batch:
        if self._closed:
            raise StopIteration
        try:
            if self._iterator is None:
                with deaf_children():
                    self._start()
                    fields = next(self._iterator)
            else:
                fields = next(self._iterator)
        except RuntimeError as error:
            if found := _GRAIN_SAYS_DEAD.search(str(error)):
                raise WorkerLost(
                    f"{self._name()} {describe_death(int(found[1]))}; if memory is short, try "
                    "fewer --config.data.workers or less --config.data.prefetch"
                ) from error
            raise
        batch = {"clips": self._ring.take(self._number)} | fields
        self._number += 1
        return batch

    def _start(self) -> None:
        # Grain reads absl flags to start a process. A program without absl's app.run has not
        # parsed them.
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()
        # Of each worker, `prefetch` blocks wait while one more is filled.
        self._ring = BlockRing(self._make_block.clips_shape, self._workers, self._prefetch + 1)
        if self._closed:  # meanwhile, by another thread
            self._ring.close()
        make_block = _WorkerBlockMaker(self._make_block, self._ring, self._steps.start)
        steps = grain.MapDataset.range(self._steps.start, self._steps.stop)
        dataset = grain.experimental.WithOptionsIterDataset(
            steps.map(make_block).to_iter_dataset(_read_options(0)),
            # The arrays that are not in the ring are small: they go through a pipe.
            grain.experimental.DatasetOptions(min_shm_size=sys.maxsize),
        )
        options = grain.MultiprocessingOptions(
            num_workers=self._workers, per_worker_buffer_size=self._prefetch
        )
        start_worker = partial(_start_worker, pickle.dumps(self._ring))
        self._iterator = iter(dataset.mp_prefetch(options, worker_init_fn=start_worker))

    def _pid(self) -> int:
        """The process id of the worker that makes the next block; 0 if it has not started."""
        return self._ring.pid(self._number % self._workers) if self._ring else 0

    def _name(self) -> str:
        pid = self._pid()
        process = f"process {pid}" if pid else "which has not started yet"
        return f"data worker {self._number % self._workers + 1} of {self._workers} ({process})"

    def sign_of_life(self) -> tuple[int, ...]:
        signs = self._ring.signs(self._number % self._workers) if self._ring else 0
        return self._number, self._pid(), signs

    def describe(self) -> str:
        pid = self._pid()
        return self._name() + (describe_state(pid) if pid else "")

    def interrupt(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._ring is not None:
            self._ring.close()  # a worker ends at its next row
        # One that is stopped or stuck does not.
        self._killer.daemon = True
        self._killer.start()

    def _kill_workers(self) -> None:
        pids = {self._ring.pid(worker) for worker in range(self._workers)} if self._ring else set()
        for process in multiprocessing.active_children():
            if process.pid in pids:
                process.kill()

    def close(self) -> None:
        self.interrupt()
        if self._iterator is not None:
            self._iterator.close()
        self._killer.cancel()


@dataclass(frozen=True)
class _WorkerBlockMaker:
    """Writes a block's pixels into shared memory and returns the arrays that belong to them."""

    make_block: BlockMaker
    ring: BlockRing
    first_step: int

    def __reduce__(self) -> tuple:
        # Grain sends the functions that it maps by cloudpickle, which takes along the code of a
        # class where pickle takes its name. So this object travels as bytes that pickle made.
        return _from_pickle, (pickle.dumps((self.make_block, self.ring, self.first_step)),)

    def __call__(self, step: int) -> Batch:
        number = int(step) - self.first_step
        worker = number % self.ring.workers

        def before_row() -> None:
            self.ring.check_open()
            self.ring.show_life(worker)

        return self.make_block.fill(step, self.ring.wait_for_slot(number), before_row)


def _from_pickle(content: bytes) -> _WorkerBlockMaker:
    return _WorkerBlockMaker(*pickle.loads(content))


def _read_options(prefetch: int) -> grain.ReadOptions:
    """One thread that makes `prefetch` blocks ahead; with 0, a block is made when asked for."""
    return grain.ReadOptions(num_threads=min(prefetch, 1), prefetch_buffer_size=prefetch)


def _start_worker(ring: bytes, worker_index: int, worker_count: int) -> None:
    """Sets up a worker: it is known to the main process, and shows it life.

    The main process may want a few more batches after a signal, before it saves.
    """
    del worker_count
    opened = pickle.loads(ring)
    opened.register(worker_index)
    start_child(partial(opened.show_life, worker_index))
