"""Writes the shards on a Dask cluster instead of in processes of this machine."""

import logging
import math
import sys
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from typing import Any

from aia_jax.errors import UserError
from aia_jax.prepare.pool import RUN_AGAIN
from aia_jax.processes.silence import format_seconds

_CONNECT_SECONDS = 10  # for the scheduler's first answer
_SLOW_SECONDS = 600.0
_CLOSE_SECONDS = 5  # for the scheduler to take note of the end; it may be gone or stopped


class ClusterPool:
    """The workers of a Dask cluster, with the interface of `pool.LocalPool`.

    All machines see the raw videos and the output folder under the same paths and have this project
    installed. If a worker dies, Dask gives its shard to another worker.
    """

    def __init__(self, address: str):
        """Connects to the scheduler.

        Raises:
            UserError: if dask is not installed, or no scheduler answers at the address.
        """
        try:
            import distributed  # optional: most users prepare their data without it
        except ImportError as error:
            raise UserError(
                "--scheduler needs Dask, which is not installed: pip install 'dask[distributed]'"
            ) from error
        # Hides Dask's tracebacks; `explain` says the same in one line.
        logging.getLogger("distributed.client").setLevel(logging.CRITICAL)
        self._killed_worker = distributed.KilledWorker
        try:
            self._client = distributed.Client(
                address, timeout=_CONNECT_SECONDS, set_as_default=False
            )
        except (TimeoutError, OSError, ValueError, TypeError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise UserError(
                f"--scheduler {address}: no Dask scheduler answers there ({reason}); write it as "
                "tcp://HOST:8786"
            ) from error
        self._address = address
        self._executor = self._client.get_executor(pure=False)
        self._jobs: list[tuple[Any, Future]] = []
        self._finished, self._since = 0, time.monotonic()  # shards, and when the last one was
        if not self._client.scheduler_info()["workers"]:
            print(
                f"note: the scheduler at {address} has no workers yet; the work begins when one "
                "joins",
                flush=True,
            )

    def __enter__(self) -> "ClusterPool":
        return self

    def __exit__(self, kind: type | None, *exception) -> None:
        # After an exception, a shard that a worker has begun cannot be stopped. It ends with the
        # bytes that the next run would write too.
        self._executor.shutdown(wait=kind is None)
        self._client.close(timeout=_CLOSE_SECONDS)

    def submit(self, function: Callable, job: Any) -> Future:
        """Queues `function(job)` for a worker."""
        future = self._executor.submit(function, job)
        self._jobs.append((job, future))
        return future

    def progress(self) -> tuple[int, int]:
        """Videos and bytes of the finished shards."""
        jobs = [
            job
            for job, future in self._jobs
            if future.done() and not future.cancelled() and not future.exception()
        ]
        num_bytes = sum(job.path.stat().st_size for job in jobs if job.path.exists())
        return sum(len(job.videos) for job in jobs), num_bytes

    def check_workers(self) -> None:
        """Says once if no shard has been finished for ten minutes.

        Dask itself gives a lost or silent worker's shard to another one. So this is no error: the
        shards may be large, or the scheduler may have no workers, or be stopped.
        """
        finished, now = sum(future.done() for _, future in self._jobs), time.monotonic()
        if finished != self._finished:
            self._finished, self._since = finished, now
        elif now - self._since >= _SLOW_SECONDS:
            self._since = math.inf
            print(
                f"note: no shard has been finished for {format_seconds(_SLOW_SECONDS)}; see that "
                f"the scheduler at {self._address} has workers, and that they are at work",
                file=sys.stderr,
                flush=True,
            )

    def explain(self, error: BaseException) -> str:
        """Explains a job's error that is about the cluster; empty if it is about the job."""
        if isinstance(error, self._killed_worker):
            return (
                "one shard after another worker of the cluster was killed, perhaps for its memory "
                f"({error}); {RUN_AGAIN}"
            )
        if isinstance(error, CancelledError):
            return f"the Dask scheduler at {self._address} has gone away; {RUN_AGAIN}"
        return ""
