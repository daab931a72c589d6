"""Requests to stop: the first is noted, the second one interrupts once and quietly."""

import os
import signal

import pytest

from aia_jax.training import stop
from aia_jax.training.stop import StopRequest


@pytest.fixture(autouse=True)
def signal_handlers():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_the_first_signal_is_noted_and_handlers_come_back():
    before = signal.getsignal(signal.SIGTERM)
    with StopRequest() as request:
        assert not request.now
        os.kill(os.getpid(), signal.SIGTERM)
        assert request.now and request.at(1)
    assert signal.getsignal(signal.SIGTERM) == before


def test_the_second_ctrl_c_interrupts_and_further_ones_do_nothing(monkeypatch):
    ends = []
    monkeypatch.setattr(stop, "end_within", lambda *arguments: ends.append(arguments))
    with pytest.raises(KeyboardInterrupt), StopRequest() as request:
        os.kill(os.getpid(), signal.SIGINT)
        assert request.now
        try:
            os.kill(os.getpid(), signal.SIGINT)
        finally:
            os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGINT)  # while the process ends
    assert [status for _, status in ends] == [1]
