"""The processes that work on shards: started, watched, their progress shown, and ended."""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_UPDATE_SECONDS = 0.5  # between two looks at the workers' counters
_LINE_SECONDS = 10.0  # between two lines of progress where there is no terminal
RUN_AGAIN = "the finished shards are kept: run the same command again to go on"


class PreparationError(Exception):
    """The preparation cannot go on; one line that says what to do."""


class LocalPool:
    """Worker processes on this machine.

    Use it in a `with` block. If an exception leaves the block, the workers are ended at once.
    """

    def __init__(self, workers: int):
        self._older_children = set(multiprocessing.active_children())
        self._counters = _Counters()
        # Not "fork": it would copy locks that other threads of this process hold.
        context = multiprocessing.get_context("spawn")
        self._executor = ProcessPoolExecutor(workers, context, _start_worker, (self._counters,))

    def __enter__(self) -> "LocalPool":
        return self

    def __exit__(self, kind: type | None, *exception) -> None:
        if kind is not None:
            for process in set(multiprocessing.active_children()) - self._older_children:
                process.terminate()
        self._executor.shutdown()

    def submit(self, function: Callable, job: Any) -> Future:
        """Queues `function(job)` for a worker."""
        return self._executor.submit(function, job)

    def progress(self) -> tuple[int, int]:
        """Videos and bytes that the workers have done so far."""
        return self._counters.read()

    def explain(self, error: BaseException) -> str:
        """Explains a job's error that is about the pool; empty if it is about the job."""
        if isinstance(error, BrokenProcessPool):
            return (
                f"a worker process was killed, perhaps for its memory; {RUN_AGAIN}, "
                "perhaps with fewer --workers"
            )
        return ""


def run_jobs(
    pool: Any,
    function: Callable[[Any], Any],
    jobs: Mapping[str, Sequence[Any]],
    progress: "ProgressReport",
    finish_group: Callable[[str, list], None],
) -> None:
    """Runs `function(job)` for all jobs of all groups in the processes of a pool.

    Args:
        pool: `LocalPool` or `cluster.ClusterPool`, entered.
        function: a module's function, which other processes can import.
        jobs: by group, such as a split.
        progress: shows how far the work is.
        finish_group: called once all jobs of a group are done, with the group's name and its
            results in the order of its jobs.

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
            wait(pending, _UPDATE_SECONDS, FIRST_COMPLETED)
            progress.update(*pool.progress())
            _raise_first_error(pool, futures)
            finished = [
                group
                for group, members in futures.items()
                if all(future.done() for future in members)
            ]
            for group in finished:
                finish_group(group, [future.result() for future in futures.pop(group)])


def _raise_first_error(pool: Any, futures: Mapping[str, Sequence[Future]]) -> None:
    done = (future for members in futures.values() for future in members if future.done())
    if (error := next(filter(None, map(_error, done)), None)) is None:
        return
    if explanation := pool.explain(error):
        raise PreparationError(explanation) from error
    if isinstance(error, OSError):
        raise PreparationError(f"{error}; {RUN_AGAIN} once that is repaired") from error
    raise error


def _error(future: Future) -> BaseException | None:
    try:
        return future.exception()
    except BaseException as cancelled:  # CancelledError is not an Exception
        return cancelled


class ProgressReport:
    """Shows on stderr the videos done, the rate, the megabytes and the time that is left.

    It is a bar on a terminal, elsewhere a line now and then. Use it in a `with` block.
    """

    def __init__(self, total: int, verb: str = "preparing"):
        self._total = total
        self._start = time.monotonic()
        self._next_line = self._start + _LINE_SECONDS
        self._bar = Progress(
            TextColumn(verb),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("videos  {task.fields[rate]:.1f}/s  {task.fields[megabytes]:,.0f} MB  ETA"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=not sys.stderr.isatty(),
        )
        self._task = self._bar.add_task(verb, total=total, rate=0.0, megabytes=0.0)

    def __enter__(self) -> "ProgressReport":
        self._bar.start()
        return self

    def __exit__(self, *exception) -> None:
        self._bar.stop()

    def update(self, videos: int, num_bytes: int) -> None:
        """Shows the videos and the bytes that are done so far."""
        now = time.monotonic()
        rate = videos / max(now - self._start, 1e-3)
        self._bar.update(self._task, completed=videos, rate=rate, megabytes=num_bytes / 1e6)
        if self._bar.disable and now >= self._next_line:
            self._next_line = now + _LINE_SECONDS
            left = f"{(self._total - videos) / rate:,.0f} s left" if videos else "starting"
            print(
                f"{videos:,}/{self._total:,} videos, {rate:.1f}/s, {num_bytes / 1e6:,.0f} MB, "
                f"{left}",
                file=sys.stderr,
                flush=True,
            )


class _Counters:
    """Videos and bytes done so far, in memory that the processes of this machine share."""

    def __init__(self):
        self._values = multiprocessing.get_context("spawn").Array("q", 2)

    def add(self, videos: int, num_bytes: int) -> None:
        with self._values.get_lock():
            self._values[0] += videos
            self._values[1] += num_bytes

    def read(self) -> tuple[int, int]:
        """Returns the videos and the bytes."""
        with self._values.get_lock():
            return self._values[0], self._values[1]


_counters: _Counters | None = None  # set in each worker process of a `LocalPool`


def _start_worker(counters: _Counters) -> None:
    """Sets up a worker process of `LocalPool`."""
    global _counters
    _counters = counters
    # A terminal sends Ctrl-C to the workers too; the parent ends them itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    """Ends this worker when its parent dies.

    Otherwise the workers of a killed run would go on writing beside those of the next run.
    """
    connection.wait([multiprocessing.parent_process().sentinel])
    os._exit(1)


def count_progress(videos: int, num_bytes: int) -> None:
    """Adds to the progress what this worker process has just done."""
    if _counters is not None:  # the workers of a cluster have none
        _counters.add(videos, num_bytes)
