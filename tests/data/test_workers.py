"""Worker processes that are stopped, stuck or killed: they are named, and nobody waits for ever."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator

import jax
import pytest

from aia_jax.data.pipeline import train_batches
from aia_jax.data.plan import BatchPlan
from aia_jax.data.prefetch import MeshPrefetch, WaitStopped, prefetch_to_mesh
from aia_jax.data.workers import iterate_blocks
from aia_jax.processes.silence import WorkerLost
from aia_jax.sharding import make_mesh
from aia_jax.shards.reader import ShardReader
from tests.helpers.tiny_pipeline import TRANSFORM, good_videos, write_videos


@pytest.fixture(scope="module")
def reader(tmp_path_factory) -> ShardReader:
    return write_videos(tmp_path_factory.mktemp("data"), good_videos(8))


@pytest.fixture
def start(reader) -> Iterator:
    """Starts two workers; afterwards none of them is left."""
    opened = []

    def start(**options) -> tuple[MeshPrefetch, list[int]]:
        plan = BatchPlan(len(reader), 4 * len(jax.devices()), seed=0)
        batches = train_batches(reader, plan, TRANSFORM, start_step=0, workers=2, prefetch=1)
        next(batches), next(batches)  # workers need seconds to start
        mesh = make_mesh({"data": -1, "fsdp": 1, "time": 1})
        opened.append(prefetch_to_mesh(batches, mesh, 1, **options))
        pids = [batches._ring.pid(worker) for worker in range(2)]
        assert {child.pid for child in multiprocessing.active_children()} == set(pids)
        return opened[0], pids

    yield start
    began = time.monotonic()
    opened[0].close()
    assert not multiprocessing.active_children()
    assert time.monotonic() - began < 25, "Grain alone waits so long for each stuck worker"


def wait_for_batches(batches: MeshPrefetch) -> None:
    for _ in range(20):
        next(batches)


def test_a_stopped_worker_is_named_and_given_up_and_a_request_to_stop_ends_the_wait(start, capsys):
    asked = threading.Event()
    batches, pids = start(stopped=asked.is_set, warn_after=0.5, end_after=2.0)
    os.kill(pids[1], signal.SIGSTOP)
    threading.Timer(0.2, asked.set).start()
    with pytest.raises(WaitStopped):
        wait_for_batches(batches)
    asked.clear()
    name = f"data worker 2 of 2 (process {pids[1]})"
    with pytest.raises(WorkerLost) as lost:
        wait_for_batches(batches)
    assert str(lost.value).startswith(name) and "no sign of life since" in str(lost.value)
    assert f"note: {name}" in capsys.readouterr().err


def test_a_killed_worker_is_named_with_the_likely_cause(start):
    batches, pids = start()
    os.kill(pids[0], signal.SIGKILL)
    with pytest.raises(WorkerLost) as lost:
        wait_for_batches(batches)
    assert f"data worker 1 of 2 (process {pids[0]}) was killed by SIGKILL" in str(lost.value)
    assert "memory" in str(lost.value) and "data.workers" in str(lost.value)


def test_reading_that_is_stuck_in_this_process_is_noticed_too(capsys):
    """As on a network disk that does not answer."""
    stuck = threading.Event()

    class StuckRows:
        clip_shape = (1, 2, 2, 3)

        def new_fields(self, count: int) -> dict:
            return {}

        def fill_row(self, step, row, slot, clip, fields) -> None:
            stuck.wait(60)

    rows = range(4 * len(jax.devices()))
    batches = iterate_blocks(StuckRows(), rows, range(3), workers=0, threads=2, prefetch=1)
    mesh = make_mesh({"data": -1, "fsdp": 1, "time": 1})
    with prefetch_to_mesh(batches, mesh, warn_after=0.2, end_after=0.8) as prefetched:
        with pytest.raises(WorkerLost, match=rf"in this process \({os.getpid()}\) has shown no"):
            next(prefetched)
        stuck.set()
    assert "note: the reading of videos in this process" in capsys.readouterr().err
