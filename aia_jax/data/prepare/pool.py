"""The processes that write shards: started, watched and ended."""

import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool

from aia_jax.data.index_rows import ShardRows
from aia_jax.data.prepare.progress import ProgressReport
from aia_jax.data.prepare.shard import Counters, ShardJob, ShardNotes, start_worker, write_shard

_LOOK_EVERY = 0.5  # seconds between two looks at the workers' counters
_AGAIN = "the finished shards are kept: run the same command again to go on"

ShardResult = tuple[ShardNotes, ShardRows]


class PreparationError(Exception):
    """The preparation cannot go on; one line that says what to do."""


def write_shards(
    jobs: Mapping[str, Sequence[ShardJob]], workers: int, finish_split: Callable[[str, list[ShardResult]], None]
) -> None:
    """Writes the shards of all splits; a process writes a whole shard.

    Args:
        jobs: the shards of each split.
        workers: the number of processes.
        finish_split: called with a split's name and its results, in the order of its jobs, once its last shard is written.

    Raises:
        PreparationError: if a process dies, or a file cannot be written.
    """
    splits = [split for split in jobs for _ in jobs[split]]
    others = set(multiprocessing.active_children())
    counters = Counters()
    context = multiprocessing.get_context("spawn")  # a fork would copy the threads' locks of whatever is loaded here
    total = sum(len(job.videos) for members in jobs.values() for job in members)
    with ProcessPoolExecutor(min(workers, len(splits)), context, start_worker, (counters,)) as pool, ProgressReport(total) as progress:
        try:
            futures = {split: [pool.submit(write_shard, job) for job in members] for split, members in jobs.items()}
            while futures:
                pending = {future for members in futures.values() for future in members if not future.done()}
                wait(pending, _LOOK_EVERY, FIRST_COMPLETED)
                progress.update(*counters.read())
                _raise_first_error(futures)
                for split in [split for split, members in futures.items() if all(future.done() for future in members)]:
                    finish_split(split, [future.result() for future in futures.pop(split)])
        except BaseException:
            for process in set(multiprocessing.active_children()) - others:
                process.terminate()
            raise


def _raise_first_error(futures: Mapping[str, Sequence[Future]]) -> None:
    error = next((f.exception() for members in futures.values() for f in members if f.done() and f.exception()), None)
    if isinstance(error, BrokenProcessPool):
        raise PreparationError(f"a worker process was killed, perhaps for its memory; {_AGAIN}, perhaps with fewer --workers") from error
    if isinstance(error, OSError):
        raise PreparationError(f"{error}; {_AGAIN} once that is repaired") from error
    if error:
        raise error
