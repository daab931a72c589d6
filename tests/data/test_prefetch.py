"""Prefetching onto the mesh: same batches, same errors, and an end whatever happens."""

import gc
import os
import socket
import subprocess
import sys
import threading
import time
import weakref

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

from aia_jax.data.prefetch import prefetch_to_mesh
from aia_jax.errors import UserError
from aia_jax.sharding import batch_shardings, make_mesh
from tests.helpers.paths import ROOT


def mesh() -> Mesh:
    return make_mesh({"data": -1, "fsdp": 1, "time": 1})


class Batches:
    """Counts what was asked for and whether it was closed."""

    def __init__(
        self,
        count: int,
        rows: int | None = None,
        error: BaseException | None = None,
        seconds: float = 0.0,
    ):
        self.count, self.rows, self.error, self.seconds = (
            count,
            rows or 2 * len(jax.devices()),
            error,
            seconds,
        )
        self.given, self.closed = 0, False

    def __iter__(self):
        return self

    def __next__(self) -> dict[str, np.ndarray]:
        time.sleep(self.seconds)
        if self.given == self.count:
            raise self.error or StopIteration
        self.given += 1
        numbers = np.arange(self.rows) + 100 * self.given
        clips = np.broadcast_to(numbers[:, None, None, None, None], (self.rows, 2, 3, 3, 3)).astype(
            np.uint8
        )
        return {"clips": clips, "labels": numbers.astype(np.int32), "records": numbers}

    def close(self) -> None:
        self.closed = True


def settled(condition) -> bool:
    deadline = time.monotonic() + 20
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def test_batches_become_global_arrays():
    expected = list(Batches(5))
    source, devices = Batches(5), mesh()
    with prefetch_to_mesh(source, devices) as batches:
        found = list(batches)
        assert list(batches) == []  # it has ended
    assert len(found) == 5
    for one, other in zip(found, expected, strict=True):
        assert {
            key: array.sharding for key, array in one.items() if key != "records"
        } == batch_shardings(devices, {"clips": other["clips"], "labels": other["labels"]})
        assert one["clips"].dtype == np.uint8
        assert isinstance(one["records"], np.ndarray)
        for key, value in other.items():
            np.testing.assert_array_equal(one[key], value)
    assert source.closed


_HOST = """
import sys
import jax, numpy as np
jax.distributed.initialize(f"localhost:{sys.argv[2]}", 2, int(sys.argv[1]))
from aia_jax.data.prefetch import prefetch_to_mesh
from aia_jax.sharding import host_block, make_mesh
for data, time in ((4, 1), (2, 2), (1, 4)):
    mesh = make_mesh({"data": data, "fsdp": 1, "time": time})
    index, count = host_block(mesh)
    clips = np.arange(4 * 8 * 12).reshape(4, 8, 2, 2, 3).astype(np.uint8)
    whole = {"clips": clips, "labels": np.arange(4, dtype=np.int32)}
    rows = slice(index * 4 // count, (index + 1) * 4 // count)
    block = {key: array[rows] for key, array in whole.items()}
    with prefetch_to_mesh(iter([block]), mesh) as batches:
        batch = next(batches)
    for key, array in whole.items():
        assert batch[key].shape == array.shape
        for shard in batch[key].addressable_shards:
            np.testing.assert_array_equal(shard.data, array[shard.index])
print("same")
"""


def test_blocks_of_two_hosts_become_one_batch():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    environment = os.environ | {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(ROOT),
    }
    hosts = [
        subprocess.Popen(
            [sys.executable, "-c", _HOST, str(host), str(port)],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        for host in range(2)
    ]
    assert [host.communicate(timeout=120)[0].strip() for host in hosts] == ["same", "same"]


def test_it_reads_ahead_but_not_without_end():
    source = Batches(100)
    with prefetch_to_mesh(source, mesh(), size=2) as batches:
        assert settled(lambda: source.given >= 3)  # two wait and one is in hand
        time.sleep(0.3)
        assert source.given == 3
        next(batches)
        assert settled(lambda: source.given == 4)
    assert settled(lambda: source.closed)


@pytest.mark.parametrize("error", [ValueError("no such frame"), KeyboardInterrupt()])
def test_errors_of_the_source_reach_the_reader(error):
    source = Batches(2, error=error)
    with prefetch_to_mesh(source, mesh()) as batches:
        assert len([next(batches), next(batches)]) == 2
        with pytest.raises(type(error)):
            next(batches)
        with pytest.raises(StopIteration):
            next(batches)
    assert source.closed


def test_errors_of_the_mesh_reach_the_reader():
    class NoImages(Batches):
        def __next__(self) -> dict[str, np.ndarray]:
            return super().__next__() | {"clips": np.zeros(3, np.uint8)}

    source = NoImages(2)
    with prefetch_to_mesh(source, mesh()) as batches, pytest.raises(IndexError):
        next(batches)
    assert source.closed


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_it_ends_when_the_reader_fails(error):
    source = Batches(100)
    with pytest.raises(error), prefetch_to_mesh(source, mesh()) as batches:
        next(batches)
        raise error
    assert source.closed
    assert not any(thread.name == "mesh-prefetch" for thread in threading.enumerate())


def test_it_ends_when_it_is_dropped():
    source = Batches(100)
    batches = prefetch_to_mesh(source, mesh())
    next(batches)
    gone = weakref.ref(batches)
    del batches
    gc.collect()
    assert gone() is None
    assert settled(lambda: source.closed)


def test_it_counts_what_the_reader_waited():
    with prefetch_to_mesh(Batches(2, seconds=0.1), mesh()) as batches:
        assert batches.wait_seconds == 0
        next(batches)
        first = batches.wait_seconds
        assert first > 0
        next(batches)
        assert batches.wait_seconds > first


def test_close_twice_and_read_after_it():
    batches = prefetch_to_mesh(Batches(3), mesh())
    batches.close()
    batches.close()
    with pytest.raises(StopIteration):
        next(batches)


def test_size_is_checked():
    with pytest.raises(UserError, match=r"data\.prefetch=0"):
        prefetch_to_mesh(Batches(1), mesh(), size=0)
