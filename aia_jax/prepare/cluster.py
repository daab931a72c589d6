"""The shards written by a Dask cluster instead of by processes of this machine."""

import logging
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from typing import Any

from aia_jax.errors import UserError
from aia_jax.prepare.pool import AGAIN

_SECONDS = 10  # for the scheduler's first answer


class ClusterPool:
    """The workers of a Dask cluster, through its standard executor. A context manager.

    The machines see the raw videos and the output folder under the same paths as this one, and have
    this project installed. A shard whose worker dies is given to another worker by Dask.
    """

    def __init__(self, address: str):
        """Connects to the scheduler.

        Raises:
            UserError: if dask is not installed, or no scheduler answers at the address.
        """
        try:
            import distributed  # an extra: most machines prepare their data without it
        except ImportError as error:
            raise UserError(
                "--scheduler needs Dask, which is not installed: pip install 'dask[distributed]'"
            ) from error
        logging.getLogger("distributed.client").setLevel(
            logging.CRITICAL
        )  # its tracebacks; `explain` says the same in a line
        self._killed_worker = distributed.KilledWorker
        try:
            self._client = distributed.Client(address, timeout=_SECONDS, set_as_default=False)
        except (TimeoutError, OSError, ValueError, TypeError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise UserError(
                f"--scheduler {address}: no Dask scheduler answers there ({reason}); write it as "
                "tcp://HOST:8786"
            ) from error
        self._address = address
        self._executor = self._client.get_executor(pure=False)
        self._jobs: list[tuple[Any, Future]] = []
        if not self._client.scheduler_info()["workers"]:
            print(
                f"note: the scheduler at {address} has no workers yet; the work begins when one "
                "joins",
                flush=True,
            )

    def __enter__(self) -> "ClusterPool":
        return self

    def __exit__(self, kind: type | None, *exception) -> None:
        # A shard that a worker has begun cannot be stopped. It ends with the same bytes that the
        # next run would write.
        self._executor.shutdown(wait=kind is None)
        self._client.close()

    def submit(self, function: Callable, job: Any) -> Future:
        future = self._executor.submit(function, job)
        self._jobs.append((job, future))
        return future

    def done(self) -> tuple[int, int]:
        """Videos and bytes of the finished shards."""
        jobs = [
            job
            for job, future in self._jobs
            if future.done() and not future.cancelled() and not future.exception()
        ]
        return sum(len(job.videos) for job in jobs), sum(
            job.path.stat().st_size for job in jobs if job.path.exists()
        )

    def explain(self, error: BaseException) -> str:
        """What a job's error means, if it is about the cluster rather than the job; else empty."""
        if isinstance(error, self._killed_worker):
            return f"one shard after another worker of the cluster was killed, perhaps for its memory ({error}); {AGAIN}"
        if isinstance(error, CancelledError):
            return f"the Dask scheduler at {self._address} has gone away; {AGAIN}"
        return ""
