"""Which steps a trace covers, and when each step was handed over and ended.

A run of train.py tests that a real trace is written.
"""

import threading
import time

import jax
import pytest

from aia_jax.training.profile import Profile, StepClock


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


def test_a_step_has_the_times_at_which_it_was_handed_over_and_at_which_it_ended():
    clock, first, second = StepClock(), Step(), Step()
    start = time.monotonic()
    clock.before_step()
    times_of_first = clock.after_step(first)  # returns at once, though the step has not ended
    clock.before_step()
    times_of_second = clock.after_step(second)
    handed_over = time.monotonic()
    time.sleep(0.1)
    first.end.set()
    times = times_of_first()
    assert start <= times.handed_over <= handed_over < handed_over + 0.1 <= times.ended
    time.sleep(0.1)
    second.end.set()
    later = times_of_second()
    assert times.handed_over <= later.handed_over <= handed_over
    assert later.ended >= times.ended + 0.1


def test_a_step_that_fails_says_so_to_whoever_asks():
    class Failed:
        def block_until_ready(self):
            raise RuntimeError("out of memory")

    clock = StepClock()
    clock.before_step()
    with pytest.raises(RuntimeError, match="out of memory"):
        clock.after_step(Failed())()
