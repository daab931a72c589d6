"""Which steps a trace covers, and which gaps between steps count as idle devices.

A run of train.py tests that a real trace is written.
"""

import threading
import time

import jax
import pytest

from aia_jax.training.profile import DeviceIdle, Profile


@pytest.mark.parametrize(
    ("start", "stop", "steps", "traced"),
    [
        (3, 5, range(1, 9), [3, 4, 5]),
        (3, 3, range(1, 9), [3]),
        (0, 0, range(1, 9), []),
        (3, 5, range(4, 9), [4, 5]),  # a run that goes on after step 3
        (3, 5, range(6, 9), []),
        (3, 9, range(1, 5), [3, 4]),  # it ends before the trace does
    ],
)
def test_steps_of_a_trace(tmp_path, monkeypatch, start, stop, steps, traced):
    calls, covered = [], []
    monkeypatch.setattr(jax.profiler, "start_trace", lambda folder: calls.append(("start", folder)))
    monkeypatch.setattr(jax.profiler, "stop_trace", lambda: calls.append(("stop", covered[-1])))
    with Profile(tmp_path / "profile", start, stop) as profile:
        for step in steps:
            profile.before(step)
            if len(calls) == 1:
                covered.append(step)
            written = profile.after(step, {"loss": jax.numpy.float32(0)})
            assert written == (bool(traced) and step == stop)
    assert covered == traced
    assert calls == ([("start", tmp_path / "profile"), ("stop", traced[-1])] if traced else [])


class Step:
    """Results of a step that ends when it is told to."""

    def __init__(self):
        self.end = threading.Event()

    def block_until_ready(self):
        if not self.end.wait(10):
            raise RuntimeError("the step failed")
        return self


def test_a_step_handed_over_late_found_the_devices_idle():
    idle, first, second = DeviceIdle(), Step(), Step()
    idle.before_step()
    before_first = idle.after_step(first)
    first.end.set()
    assert before_first() == 0
    ended = time.monotonic()
    time.sleep(0.2)
    idle.before_step()
    handed_over = time.monotonic()
    before_second = idle.after_step(second)
    second.end.set()
    assert 0.2 <= before_second() <= handed_over - ended + 0.1


def test_a_step_handed_over_while_one_runs_waits_for_the_devices_and_not_they_for_it():
    idle, steps = DeviceIdle(), [Step(), Step(), Step()]
    waits = []
    for step in steps:
        idle.before_step()
        waits.append(idle.after_step(step))  # returns at once, though no step has ended
    for step in steps:
        step.end.set()
    assert [wait() for wait in waits] == [0, 0, 0]


def test_a_step_that_fails_says_so_to_whoever_asks():
    class Failed:
        def block_until_ready(self):
            raise RuntimeError("out of memory")

    idle = DeviceIdle()
    idle.before_step()
    with pytest.raises(RuntimeError, match="out of memory"):
        idle.after_step(Failed())()
