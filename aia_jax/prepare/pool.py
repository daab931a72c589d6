"""The processes that work on shards: started, watched and ended."""

import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from aia_jax.prepare.progress import Counters, ProgressReport, start_worker

_LOOK_EVERY = 0.5  # seconds between two looks at the workers' counters
AGAIN = "the finished shards are kept: run the same command again to go on"


class PreparationError(Exception):
    """The preparation cannot go on; one line that says what to do."""


class LocalPool:
    """Processes of this machine. A context manager; left by an exception, it ends them at once."""

    def __init__(self, workers: int):
        self._others = set(multiprocessing.active_children())
        self._counters = Counters()
        context = multiprocessing.get_context(
            "spawn"
        )  # a fork would copy the threads' locks of whatever is loaded here
        self._executor = ProcessPoolExecutor(workers, context, start_worker, (self._counters,))

    def __enter__(self) -> "LocalPool":
        return self

    def __exit__(self, kind: type | None, *exception) -> None:
        if kind is not None:
            for process in set(multiprocessing.active_children()) - self._others:
                process.terminate()
        self._executor.shutdown()

    def submit(self, function: Callable, job: Any) -> Future:
        return self._executor.submit(function, job)

    def done(self) -> tuple[int, int]:
        """Videos and bytes worked on so far."""
        return self._counters.read()

    def explain(self, error: BaseException) -> str:
        """What a job's error means, if it is about the pool rather than the job; else empty."""
        if isinstance(error, BrokenProcessPool):
            return f"a worker process was killed, perhaps for its memory; {AGAIN}, perhaps with fewer --workers"
        return ""


def run_jobs(
    pool: Any,
    function: Callable[[Any], Any],
    jobs: Mapping[str, Sequence[Any]],
    progress: ProgressReport,
    finish_group: Callable[[str, list], None],
) -> None:
    """Runs `function(job)` for all jobs of all groups in the processes of a pool.

    Args:
        pool: `LocalPool` or `cluster.ClusterPool`, entered.
        function: of a module, so that other processes find it.
        jobs: by group, such as a split.
        progress: shows how far it is.
        finish_group: called with a group's name and its results, in the order of its jobs, once the
            last of them is there.

    Raises:
        PreparationError: if a process dies, or a file cannot be read or written.
    """
    with progress:
        futures = {
            group: [pool.submit(function, job) for job in members]
            for group, members in jobs.items()
        }
        while futures:
            pending = {
                future for members in futures.values() for future in members if not future.done()
            }
            wait(pending, _LOOK_EVERY, FIRST_COMPLETED)
            progress.update(*pool.done())
            _raise_first_error(pool, futures)
            for group in [
                group
                for group, members in futures.items()
                if all(future.done() for future in members)
            ]:
                finish_group(group, [future.result() for future in futures.pop(group)])


def _raise_first_error(pool: Any, futures: Mapping[str, Sequence[Future]]) -> None:
    ended = (future for members in futures.values() for future in members if future.done())
    if (error := next(filter(None, map(_error, ended)), None)) is None:
        return
    if explained := pool.explain(error):
        raise PreparationError(explained) from error
    if isinstance(error, OSError):
        raise PreparationError(f"{error}; {AGAIN} once that is repaired") from error
    raise error


def _error(future: Future) -> BaseException | None:
    try:
        return future.exception()
    except BaseException as cancelled:  # CancelledError is not an Exception
        return cancelled
