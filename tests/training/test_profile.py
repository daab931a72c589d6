"""Which steps a trace covers; that a real one is written is tested with a run of train.py."""

import jax
import pytest

from aia_jax.training.profile import Profile


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
