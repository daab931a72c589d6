"""A worker of the pool that is stopped or killed is named, and the pool ends all the same."""

import multiprocessing
import signal
import time

import pytest

from aia_jax.prepare.pool import LocalPool, PreparationError, ProgressReport, run_jobs


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (signal.SIGSTOP, ("has shown no sign of life since", "run the same command again")),
        (signal.SIGKILL, ("was killed by SIGKILL", "memory", "fewer --workers")),
    ],
)
def test_a_lost_worker_is_named_and_ends_the_preparation(number, words, capsys):
    began = time.monotonic()
    with (
        pytest.raises(PreparationError, match=r"^worker 1 \(process \d+\)") as error,
        LocalPool(1, warn_after=0.5, end_after=4.0) as pool,
    ):
        # The worker sends the signal to itself.
        run_jobs(pool, signal.raise_signal, {"train": [number]}, ProgressReport(1), print)
    assert all(word in str(error.value) for word in words), error.value
    assert f"at {number}" in str(error.value), "which job it was at"
    assert not multiprocessing.active_children() and time.monotonic() - began < 60
    if number == signal.SIGSTOP:
        assert "note: worker 1 (" in capsys.readouterr().err
