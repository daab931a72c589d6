"""A worker that shows no sign of life is named, and later given up."""

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from aia_jax.processes import silence
from aia_jax.processes.silence import (
    SilenceWatch,
    WorkerLost,
    describe_death,
    describe_state,
    show_life_while_computing,
)


def describe() -> str:
    return "worker 7"


def test_silence_is_said_once_and_then_ends_the_wait(capsys):
    watch = SilenceWatch(0.05, 0.3)
    with pytest.raises(WorkerLost, match=r"^worker 7 has shown no sign of life since \d\d:\d\d:"):
        for _ in range(1000):
            watch.check("same", describe)
            time.sleep(0.01)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("note: worker 7 has shown no sign of life since ")
    assert line.endswith("; after 0.3 s the run ends")


def test_a_sign_of_life_begins_the_count_anew(capsys):
    watch = SilenceWatch(0.1, 0.2)
    for sign in range(20):
        watch.check(sign, describe)
        time.sleep(0.02)
    assert not capsys.readouterr().err


def test_a_machine_that_slept_is_no_silence(monkeypatch):
    """All processes of a run are stopped together, and the clock goes on."""
    hours = itertools.count(step=3600.0)
    monkeypatch.setattr(silence.time, "monotonic", lambda: next(hours))
    watch = SilenceWatch(60.0, 600.0)
    for _ in range(10):
        watch.check("same", describe)


def test_only_a_process_that_computes_shows_life(monkeypatch):
    used = iter([0.0, 0.0, 0.0001, 1.0, 1.0, 2.0])  # seconds of computing, look by look
    looked = threading.Event()

    def process_time() -> float:
        for seconds in used:
            return seconds
        looked.set()
        return 2.0

    monkeypatch.setattr(silence, "_SHOW_SECONDS", 0.01)
    monkeypatch.setattr(silence.time, "process_time", process_time)
    shown = []
    show_life_while_computing(lambda: shown.append(True))
    assert looked.wait(20) and len(shown) == 2


def test_deaths_have_names():
    assert "memory ran out" in describe_death(-signal.SIGKILL)
    assert describe_death(-signal.SIGSEGV) == "was killed by SIGSEGV, a fault in a library"
    assert describe_death(-signal.SIGTERM) == "was killed by SIGTERM"
    assert describe_death(3) == "ended with exit status 3"
    assert describe_death(None) == "has died"


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="only Linux says a process's state")
def test_a_stopped_process_is_called_so():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert describe_state(process.pid) == ""
        process.send_signal(signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)
        assert f"kill -CONT {process.pid}" in describe_state(process.pid)
        process.kill()
    assert describe_state(process.pid) == ""
