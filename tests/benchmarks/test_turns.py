"""Benchmarks in turns: who is called when, and what is said of a process that dies."""

import os
import signal
from pathlib import Path

import pytest

from benchmarks import turns


def writing(path, name):
    def call():
        with Path(path).open("a") as file:
            file.write(name)

    return call, {"pid": os.getpid()}


def mortal(calls):
    left = iter(range(calls))

    def call():
        if next(left, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)

    return call, {}


def test_networks_take_turns_in_processes_of_their_own(tmp_path):
    seconds, facts = turns.in_turns(
        writing, {"one": (tmp_path / "calls", "a"), "two": (tmp_path / "calls", "b")}, 3
    )
    assert (tmp_path / "calls").read_text() == "ab" + 3 * "ab"  # once each before any is timed
    assert [len(times) for times in seconds.values()] == [3, 3] and min(
        map(min, seconds.values())
    ) > 0
    assert len({os.getpid(), facts["one"]["pid"], facts["two"]["pid"]}) == 3


def test_a_ratio_is_the_median_of_those_in_one_round():
    assert turns.ratio([1, 20, 6], to=[1, 10, 2]) == 2


def failing(calls):
    left = iter(range(calls))

    def call():
        if next(left, None) is None:
            raise OSError("of the call itself")

    return call, {}


def test_an_exception_of_the_call_is_shown(capfd):
    with pytest.raises(SystemExit, match="error: frail: its process ended early, with status 1"):
        turns.in_turns(failing, {"frail": (1,)}, 1)
    assert "of the call itself" in capfd.readouterr().err


@pytest.mark.parametrize("calls", [0, 2])
def test_a_process_that_dies_is_named(calls):
    with pytest.raises(
        SystemExit, match=f"error: frail: its process ended early, with status {-signal.SIGKILL}"
    ):
        turns.in_turns(mortal, {"sound": (99,), "frail": (calls,)}, 5)
