"""The ring of shared blocks: blocks arrive, and none is overwritten before it is taken."""

import multiprocessing
import pickle
import threading
from multiprocessing.queues import SimpleQueue

import numpy as np
import pytest

from aia_jax.data.shared_blocks import BlockRing, RingClosed


def _fill(content: bytes, numbers: range, done: SimpleQueue) -> None:
    ring = pickle.loads(content)
    for number in numbers:
        ring.wait_for_slot(number)[:] = number
        done.put(number)


def test_blocks_of_other_processes_arrive_in_order():
    ring = BlockRing((3, 5), workers=2, depth=2)
    context = multiprocessing.get_context("spawn")
    done = [context.SimpleQueue() for _ in range(2)]
    workers = [
        context.Process(target=_fill, args=(pickle.dumps(ring), range(first, 20, 2), done[first]))
        for first in range(2)
    ]
    for worker in workers:
        worker.start()
    for number in range(20):  # 4 have a slot at a time
        assert done[number % 2].get() == number
        np.testing.assert_array_equal(ring.take(number), np.full((3, 5), number))
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0


def test_a_block_waits_until_its_slot_is_free():
    ring = BlockRing((2,), workers=1, depth=2)
    copy = pickle.loads(pickle.dumps(ring))  # as a worker has it
    copy.wait_for_slot(0)[:] = 7
    copy.wait_for_slot(1)[:] = 8
    third = threading.Thread(target=lambda: copy.wait_for_slot(2).fill(9))
    third.start()
    third.join(0.1)
    assert third.is_alive()
    assert ring.take(0).tolist() == [7, 7]
    third.join(10)
    assert not third.is_alive()
    assert [ring.take(number).tolist() for number in (1, 2)] == [[8, 8], [9, 9]]


def test_what_was_taken_is_a_copy():
    ring = BlockRing((2,), workers=1, depth=1)
    ring.wait_for_slot(0)[:] = 1
    taken = ring.take(0)
    ring.wait_for_slot(1)[:] = 2
    assert taken.tolist() == [1, 1]


def test_closing_ends_the_wait():
    ring = BlockRing((2,), workers=1, depth=1)
    ring.close()
    ring.wait_for_slot(0)
    with pytest.raises(RingClosed):
        ring.wait_for_slot(1)
