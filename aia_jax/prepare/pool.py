"""The processes that work on shards: started, watched, their progress shown, and ended."""

import multiprocessing
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from aia_jax.prepare.worker_slots import WorkerSlots, run_in_slot, use_slots
from aia_jax.processes.children import deaf_children, start_child
from aia_jax.processes.silence import (
    END_SECONDS,
    WARN_SECONDS,
    SilenceWatch,
    WorkerLost,
    describe_death,
    describe_state,
)

_UPDATE_SECONDS = 0.5  # between two looks at the workers' counters
_END_SECONDS = 10.0  # that workers have to end by themselves
_EXIT_CODE_SECONDS = 2.0  # until the exit code of a process that died must be known
_LINE_SECONDS = 10.0  # between two lines of progress where there is no terminal
RUN_AGAIN = "the finished shards are kept: run the same command again to go on"


class PreparationError(Exception):
    """The preparation cannot go on; one line that says what to do."""


class LocalPool:
    """Worker processes on this machine.

    Use it in a `with` block. If an exception leaves the block, the workers are killed at once: what
    they have not finished is written again by the next run.

    Args:
        workers: how many.
        warn_after: seconds without a sign of life of a worker that has a job, after which a line
            names it.
        end_after: seconds without one after which `check_workers` gives up.
    """

    def __init__(
        self, workers: int, *, warn_after: float = WARN_SECONDS, end_after: float = END_SECONDS
    ):
        self._older_children = set(multiprocessing.active_children())
        self._children: set[Any] = set()
        self._slots = WorkerSlots(workers)
        self._watches = [SilenceWatch(warn_after, end_after) for _ in range(workers)]
        self._jobs: list[Any] = []
        # Not "fork": it would copy locks that other threads of this process hold.
        context = multiprocessing.get_context("spawn")
        self._executor = ProcessPoolExecutor(workers, context, _start_worker, (self._slots,))

    def __enter__(self) -> "LocalPool":
        return self

    def __exit__(self, kind: type | None, *exception) -> None:
        self._find_children()
        if kind is not None:
            for process in self._children:
                process.kill()
        # Waits in a thread: a worker that is stuck must not hold up the end.
        ending = threading.Thread(target=self._executor.shutdown, daemon=True)
        ending.start()
        ending.join(_END_SECONDS)
        if ending.is_alive():
            for process in self._children:
                process.kill()
            ending.join(_END_SECONDS)

    def _find_children(self) -> None:
        """Keeps the objects of the processes, because they tell how a process ended."""
        self._children |= set(multiprocessing.active_children()) - self._older_children

    def submit(self, function: Callable, job: Any) -> Future:
        """Queues `function(job)` for a worker."""
        self._jobs.append(job)
        with deaf_children():
            future = self._executor.submit(run_in_slot, len(self._jobs) - 1, function, job)
        self._find_children()
        return future

    def progress(self) -> tuple[int, int]:
        """Videos and bytes that the workers have done so far."""
        slots = self._slots.read()
        return sum(slot.videos for slot in slots), sum(slot.num_bytes for slot in slots)

    def check_workers(self) -> None:
        """Looks whether workers are silent; call it about once a second.

        Raises:
            PreparationError: a worker that has a job has been silent for too long.
        """
        self._find_children()
        slots = self._slots.read()
        nobody = not any(slot.pid for slot in slots)  # then the first worker stands for all
        for number, (slot, watch) in enumerate(zip(slots, self._watches, strict=True)):
            waited_for = slot.job or (nobody and number == 0)
            sign = (slot.job, slot.signs) if waited_for else time.monotonic()
            try:
                watch.check(sign, lambda number=number: self._name(number, state=True))
            except WorkerLost as lost:
                raise PreparationError(f"{lost}; {RUN_AGAIN}") from lost

    def _name(self, number: int, *, state: bool = False) -> str:
        slot = self._slots.read()[number]
        if not slot.pid:
            return f"worker {number + 1} (which has not started yet)"
        system = describe_state(slot.pid) if state else ""
        at = f" at {_describe_job(self._jobs[slot.job - 1], slot.done)}" if slot.job else ""
        return f"worker {number + 1} (process {slot.pid}){system}{at}"

    def explain(self, error: BaseException) -> str:
        """Explains a job's error that is about the pool; empty if it is about the job."""
        if not isinstance(error, BrokenProcessPool):
            return ""
        self._find_children()
        dead = self._find_dead()
        numbers = {slot.pid: number for number, slot in enumerate(self._slots.read())}
        if dead is None or dead.pid not in numbers:
            death = describe_death(dead.exitcode) if dead else "has died"
            return f"a worker process {death}; {RUN_AGAIN}, perhaps with fewer --workers"
        return (
            f"{self._name(numbers[dead.pid])} {describe_death(dead.exitcode)}; {RUN_AGAIN}, "
            "perhaps with fewer --workers"
        )

    def _find_dead(self) -> Any:
        """The process that died first, None if none is found: the others are killed later."""
        # While the executor's own thread asks the system for it, nobody else gets the exit code.
        deadline = time.monotonic() + _EXIT_CODE_SECONDS
        while time.monotonic() < deadline:
            if dead := next((one for one in self._children if one.exitcode), None):
                return dead
            time.sleep(0.01)
        return None


def _describe_job(job: Any, done: int) -> str:
    """Which video of a job a worker is at; of a job without videos, which file."""
    videos = getattr(job, "videos", ())
    return str(videos[done].source) if done < len(videos) else str(getattr(job, "path", job))


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
        PreparationError: if a process dies or is silent for too long, or a file cannot be read or
            written.
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
            pool.check_workers()
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


def _start_worker(slots: WorkerSlots) -> None:
    """Sets up a worker process of `LocalPool`."""
    use_slots(slots)
    start_child(slots.show_life)
