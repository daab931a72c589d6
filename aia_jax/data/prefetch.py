"""Moves batches to the mesh, ahead of the step that uses them."""

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from aia_jax.errors import UserError
from aia_jax.sharding import batch_shardings, host_block

HOST_KEYS = ("records", "damaged")  # bookkeeping, which stays in this host's memory

_POLL = 0.1  # seconds after which a waiting thread looks again whether it shall stop
_CLOSE_SECONDS = 30.0  # `close` waits this long for the thread, which finishes its batch first

_END = object()


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
    ):
        self.wait_seconds = 0.0
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
        batch, error = self._ready.get()
        self.wait_seconds += time.perf_counter() - start
        if batch is _END:
            self._ended = True
            if error is not None:
                raise error
            raise StopIteration
        return batch

    def close(self) -> None:
        """Ends the thread and closes the iterator of host batches; a second call does nothing."""
        self._stop.set()
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
    batches: Iterator[Mapping[str, np.ndarray]], mesh: jax.sharding.Mesh, size: int = 2
) -> MeshPrefetch:
    """Turns this host's blocks of batches into global arrays on the mesh, in a thread.

    Args:
        batches: dicts of arrays, each the host's contiguous block of a global batch
            (`sharding.host_block`); closed at the end if it can be.
        mesh: from `sharding.make_mesh`; `sharding.batch_shardings` says where each array lies.
        size: batches that wait on the devices, at least 1; one more may be on its way.

    Returns:
        An iterator of dicts of `jax.Array`, with the keys in `HOST_KEYS` left as NumPy arrays. It
        raises what `batches` raises.

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

    return MeshPrefetch(batches, to_mesh, size)


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
