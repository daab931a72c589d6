"""A folder that one process at a time writes to."""

import errno
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading

import pytest

from aia_jax import lock as lock_module
from aia_jax.errors import RunFailed, UserError
from aia_jax.lock import LOCK, FolderLock
from tests.helpers.paths import ROOT

HOLDER = """
import sys, time
from pathlib import Path
from aia_jax.lock import FolderLock
held = FolderLock(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def impatient(monkeypatch):
    """Signs of life every 50 ms, and a dead holder after half a second."""
    monkeypatch.setattr(lock_module, "_BEAT_SECONDS", 0.05)
    monkeypatch.setattr(lock_module, "_WATCH_SECONDS", 0.5)


def leave(folder, **other):
    """The lock file as a killed process leaves it."""
    holder = {"pid": 7, "host": "elsewhere", "boot": "another", "since": "then"} | other
    (folder / LOCK).write_text(json.dumps(holder))


def test_a_second_holder_is_refused_with_process_and_host(tmp_path):
    with FolderLock(tmp_path) as held:
        assert held.notes == []
        held.check()
        with pytest.raises(UserError) as raised:
            FolderLock(tmp_path)
        assert f"process {os.getpid()} on host {socket.gethostname()} since 2" in str(raised.value)
        assert "--workdir" in str(raised.value) and "\n" not in str(raised.value)
    with FolderLock(tmp_path):  # released
        pass
    assert (tmp_path / LOCK).read_bytes() == b""


def test_a_lock_that_nobody_refers_to_any_more_is_released(tmp_path):
    held = FolderLock(tmp_path)
    del held
    FolderLock(tmp_path).release()


def test_a_killed_process_leaves_no_lock(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, tmp_path], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=f"in use by process {holder.pid} on host"):
            FolderLock(tmp_path)
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        holder.stdout.close()
    with FolderLock(tmp_path) as held:
        assert held.notes == []


def test_a_live_holder_on_another_machine_is_seen(tmp_path, impatient):
    """The kernel's lock is free here, as on a file system that keeps locks to each machine."""
    leave(tmp_path)
    stop = threading.Event()

    def live():
        while not stop.wait(0.05):
            os.utime(tmp_path / LOCK)

    thread = threading.Thread(target=live)
    thread.start()
    try:
        with pytest.raises(UserError, match="in use by process 7 on host elsewhere since then"):
            FolderLock(tmp_path)
    finally:
        stop.set()
        thread.join()


def test_a_dead_holder_on_another_machine_is_taken_over(tmp_path, impatient, capsys):
    leave(tmp_path)
    with FolderLock(tmp_path) as held:
        (note,) = held.notes
        assert "taken over from process 7 on host elsewhere" in note
        held.check()
        leave(tmp_path)  # while this process was suspended
        with pytest.raises(RunFailed, match="taken over by process 7 on host elsewhere"):
            held.check()
    assert "watching for 0.5 s" in capsys.readouterr().out
    assert json.loads((tmp_path / LOCK).read_text())["pid"] == 7  # not ours to empty


def test_a_file_system_without_locks_is_said_and_signs_of_life_decide(
    tmp_path, impatient, monkeypatch
):
    def no_locks(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with FolderLock(tmp_path) as held:
        assert "without locks" in held.notes[0]
        with pytest.raises(UserError, match=f"in use by process {os.getpid()}"):
            FolderLock(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff"])
def test_a_lock_file_that_says_nothing_hinders_nobody(tmp_path, content):
    (tmp_path / LOCK).write_bytes(content)
    with FolderLock(tmp_path) as held:
        assert held.notes == []
