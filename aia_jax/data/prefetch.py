"""Moves batches to the mesh, ahead of the step that uses them."""

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from aia_jax.data.workers import Blocks
from aia_jax.errors import UserError
from aia_jax.processes.silence import END_SECONDS, WARN_SECONDS, SilenceWatch
from aia_jax.sharding import batch_shardings, host_block

HOST_KEYS = ("records", "damaged")  # bookkeeping, which stays in this host's memory

_POLL = 0.1  # seconds after which a waiting thread looks again whether it shall stop
_CLOSE_SECONDS = 30.0  # `close` waits this long for the thread, which finishes its batch first

_END = object()


class WaitStopped(Exception):
    """The run was asked to stop while it waited for a batch; no batch was taken."""


class MeshPrefetch:
    """An iterator of batches whose arrays are on the devices already; made by `prefetch_to_mesh`.

    Use it in a `with` block, or call `close`: either ends the thread and closes the iterator of
    host batches.

    Attributes:
        wait_seconds: how long the consumer has waited for batches, in all: the time that the data
            cost beyond the computation.
    """

    def __init__(
        self,
        batches: Iterator[Mapping[str, np.ndarray]],
        to_mesh: Callable[[Mapping[str, np.ndarray]], dict[str, Any]],
        size: int,
        stopped: Callable[[], bool],
        warn_after: float,
        end_after: float,
    ):
        self.wait_seconds = 0.0
        self._batches, self._stopped = batches, stopped
        self._warn_after, self._end_after = warn_after, end_after
        self._ready: queue.Queue = queue.Queue(maxsize=size)
        self._stop = threading.Event()
        self._ended = False
        self._thread = threading.Thread(
            target=_produce,
            args=(batches, to_mesh, self._ready, self._stop),
            name="mesh-prefetch",
            daemon=True,
        )
        self._thread.start()

    def __iter__(self) -> "MeshPrefetch":
        return self

    def __next__(self) -> dict[str, Any]:
        if self._ended or self._stop.is_set():
            raise StopIteration
        start = time.perf_counter()
        try:
            batch, error = self._wait()
        finally:
            self.wait_seconds += time.perf_counter() - start
        if batch is _END:
            self._ended = True
            if error is not None:
                raise error
            raise StopIteration
        return batch

    def _wait(self) -> tuple[Any, BaseException | None]:
        """The next item of the queue; wakes up now and then for what else may happen."""
        watch = None
        while True:
            try:
                return self._ready.get(timeout=_POLL)
            except queue.Empty:
                if self._stopped():
                    raise WaitStopped from None
            if isinstance(self._batches, Blocks):
                watch = watch or SilenceWatch(self._warn_after, self._end_after)
                watch.check(self._batches.sign_of_life(), self._batches.describe)

    def close(self) -> None:
        """Ends the thread and closes the iterator of host batches; a second call does nothing."""
        self._stop.set()
        if isinstance(self._batches, Blocks):
            self._batches.interrupt()  # or the thread may wait for a worker that is stuck
        while True:  # frees the memory of batches that nobody will use
            try:
                self._ready.get_nowait()
            except queue.Empty:
                break
        if self._thread is not threading.current_thread():
            self._thread.join(_CLOSE_SECONDS)

    def __enter__(self) -> "MeshPrefetch":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self._stop.set()


def prefetch_to_mesh(
    batches: Iterator[Mapping[str, np.ndarray]],
    mesh: jax.sharding.Mesh,
    size: int = 2,
    stopped: Callable[[], bool] = lambda: False,
    *,
    warn_after: float = WARN_SECONDS,
    end_after: float = END_SECONDS,
) -> MeshPrefetch:
    """Turns this host's blocks of batches into global arrays on the mesh, in a thread.

    Args:
        batches: dicts of arrays, each the host's contiguous block of a global batch
            (`sharding.host_block`); closed at the end if it can be.
        mesh: from `sharding.make_mesh`; `sharding.batch_shardings` says where each array lies.
        size: batches that wait on the devices, at least 1; one more may be on its way.
        stopped: True once the run is asked to stop; then nobody waits for a batch any longer.
        warn_after: seconds without a sign of life of whoever makes the batch that is waited for,
            after which a line on stderr names it.
        end_after: seconds without a sign of life after which the iterator raises `WorkerLost`.

    Returns:
        An iterator of dicts of `jax.Array`, with the keys in `HOST_KEYS` left as NumPy arrays. It
        raises what `batches` raises, `WaitStopped` if no batch is ready and `stopped` says so, and
        `WorkerLost`.

    Raises:
        UserError: if no batch may wait.
    """
    if size < 1:
        raise UserError(f"data.prefetch={size}: at least 1 batch has to fit on the devices")
    host_count = host_block(mesh)[1]

    def to_mesh(batch: Mapping[str, np.ndarray]) -> dict[str, Any]:
        arrays = {key: block for key, block in batch.items() if key not in HOST_KEYS}
        for key, sharding in batch_shardings(mesh, arrays).items():
            block = batch[key]
            # The shape is given, not inferred: hosts along `time` hold the same rows, with all
            # frames.
            arrays[key] = jax.make_array_from_process_local_data(
                sharding, block, (len(block) * host_count, *block.shape[1:])
            )
        return arrays | {key: batch[key] for key in HOST_KEYS if key in batch}

    return MeshPrefetch(batches, to_mesh, size, stopped, warn_after, end_after)


def _produce(
    batches: Iterator[Mapping[str, np.ndarray]],
    to_mesh: Callable[[Mapping[str, np.ndarray]], dict[str, Any]],
    ready: queue.Queue,
    stop: threading.Event,
) -> None:
    # This is not a method: the thread would then keep the MeshPrefetch alive, and would never stop
    # after the last other reference to it is gone.
    error = None
    try:
        for batch in batches:
            if stop.is_set() or not _put(ready, (to_mesh(batch), None), stop):
                break
    except BaseException as raised:  # raised again in the consumer's thread
        error = raised
    try:
        if close := getattr(batches, "close", None):
            close()
    except BaseException as raised:
        error = error or raised
    _put(ready, (_END, error), stop)


def _put(ready: queue.Queue, item: tuple, stop: threading.Event) -> bool:
    while not stop.is_set():
        try:
            ready.put(item, timeout=_POLL)
            return True
        except queue.Full:
            pass
    return False
