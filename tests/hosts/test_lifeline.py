"""No process of a run outlives another: it ends by one line that names the dead one."""

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time

import pytest

from tests.helpers.paths import ROOT

_HOST = """
import sys, time
import jax
from aia_jax import hosts
from aia_jax.errors import UserError, exit_status

def main():
    hosts.initialise_hosts()
    print("connected", flush=True)
    if sys.stdin.readline() == "fail\\n":
        raise UserError("its own error")

sys.exit(hosts.leave(exit_status(main)))
"""


def start_hosts(count: int) -> list[subprocess.Popen]:
    """Starts processes that JAX connects, each of which then waits for a line of input."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    variables = {
        "JAX_PLATFORMS": "cpu",
        "JAX_COORDINATOR_ADDRESS": address,
        "JAX_NUM_PROCESSES": str(count),
    }
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _HOST],
            cwd=ROOT,
            env=os.environ | variables | {"JAX_PROCESS_ID": str(index)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(count)
    ]
    for process in processes:
        assert process.stdout.readline() == "connected\n", process.stderr.read()
    return processes


def outcome(process: subprocess.Popen) -> tuple[int, list[str]]:
    """The exit status and the lines on stderr."""
    err = process.communicate(timeout=60)[1]
    return process.returncode, err.splitlines()


def test_a_killed_process_ends_all_others_at_once_by_its_name():
    *others, killed = start_hosts(3)
    killed.kill()
    start = time.monotonic()
    for other in others:
        status, lines = outcome(other)
        assert status == 1 and len(lines) == 1, lines
        assert lines[0].startswith(f"error: process 2 (on {socket.gethostname()}, process id ")
        assert f"{killed.pid}) has died" in lines[0]
    assert time.monotonic() - start < 20
    killed.communicate()


def test_the_death_of_process_0_is_one_line_too():
    """JAX's own client, which aborts its process, does not notice it."""
    killed, other = start_hosts(2)
    killed.kill()
    status, lines = outcome(other)
    assert status == 1 and len(lines) == 1, lines
    assert lines[0].startswith("error: process 0 (on ") and "has died" in lines[0]
    killed.communicate()


@pytest.mark.parametrize("failing", [0, 1])
def test_an_error_of_one_process_ends_the_other(failing):
    processes = start_hosts(2)
    failed, other = processes[failing], processes[1 - failing]
    failed.stdin.write("fail\n")
    failed.stdin.flush()
    assert outcome(other) == (
        1,
        [
            f"error: process {failing} (on {socket.gethostname()}, process id {failed.pid}) has "
            "ended with status 2; its own output says why; start all processes again to go on "
            "from the last checkpoint once that is repaired"
        ],
    )
    assert outcome(failed) == (2, ["error: its own error"])


def test_processes_wait_for_each_other_also_for_one_that_is_stopped_for_a_while():
    first, last = start_hosts(2)
    last.send_signal(signal.SIGSTOP)
    first.stdin.close()
    time.sleep(1)
    assert first.poll() is None, "JAX's service is in it, which the other one may still use"
    last.send_signal(signal.SIGCONT)
    last.stdin.close()
    for process in (first, last):
        process.wait(60)
        assert (process.returncode, process.stderr.read()) == (0, "")
        process.stdout.close()
        process.stderr.close()


_SILENT = """
    import os, signal, socket, sys, time
    from aia_jax.hosts.lifeline import Lifeline
    from aia_jax.hosts.peers import Member, Peer
    with socket.create_server(("127.0.0.1", 0)) as server:
        far = socket.create_connection(server.getsockname())
        near, _ = server.accept()
    peer = Peer(near, Member(3, "elsewhere", 12))
    Lifeline(0, [peer], warn_after=0.5, end_after=float(sys.argv[1])).start()
    print("watched", flush=True)
    time.sleep(30)
    print("not ended", flush=True)
    os._exit(0)
"""


def test_a_silent_process_is_named_and_ends_the_run_later():
    """Like one that is stopped: its system keeps the connection, so it may come back."""
    program = textwrap.dedent(_SILENT)
    done = subprocess.run(
        [sys.executable, "-c", program, "1.5"],
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    note, error = done.stderr.splitlines()
    assert done.returncode == 1 and "not ended" not in done.stdout
    assert note.startswith(
        "note: process 3 (on elsewhere, process id 12) has shown no sign of life"
    )
    assert error.startswith("error: process 3 (on elsewhere, process id 12) has shown no sign")
