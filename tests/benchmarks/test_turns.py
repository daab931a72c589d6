"""benchmarks.turns: the order of calls, and the message when a process dies."""

import os
import signal
from pathlib import Path

import pytest

from benchmarks import turns


def prepare_writer(path, name):
    """A call that appends a letter to a file."""

    def call():
        with Path(path).open("a") as file:
            file.write(name)

    return call, {"pid": os.getpid()}


def prepare_killed(calls):
    """A call that kills its process after so many calls."""
    left = iter(range(calls))

    def call():
        if next(left, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)

    return call, {}


def test_networks_take_turns_in_processes_of_their_own(tmp_path):
    networks = {"one": (tmp_path / "calls", "a"), "two": (tmp_path / "calls", "b")}
    seconds, facts = turns.time_in_turns(prepare_writer, networks, 3)
    assert (tmp_path / "calls").read_text() == "ab" + 3 * "ab"  # once each before any is timed
    assert [len(times) for times in seconds.values()] == [3, 3]
    assert min(map(min, seconds.values())) > 0
    assert len({os.getpid(), facts["one"]["pid"], facts["two"]["pid"]}) == 3


def test_a_ratio_is_the_median_over_rounds():
    assert turns.median_ratio([1, 20, 6], baseline=[1, 10, 2]) == 2


def prepare_failing(calls):
    """A call that raises after so many calls."""
    left = iter(range(calls))

    def call():
        if next(left, None) is None:
            raise OSError("of the call itself")

    return call, {}


def test_an_exception_of_the_call_is_shown(capfd):
    with pytest.raises(SystemExit, match="error: frail: its process ended early, with status 1"):
        turns.time_in_turns(prepare_failing, {"frail": (1,)}, 1)
    assert "of the call itself" in capfd.readouterr().err


@pytest.mark.parametrize("calls", [0, 2])
def test_a_process_that_dies_is_named(calls):
    with pytest.raises(
        SystemExit, match=f"error: frail: its process ended early, with status {-signal.SIGKILL}"
    ):
        turns.time_in_turns(prepare_killed, {"sound": (99,), "frail": (calls,)}, 5)
