"""A process ends with its status, whatever is stuck in it."""

import os
import subprocess
import sys
import textwrap
import time

from tests.helpers.paths import ROOT


def run_python(program: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=100,
    )


def test_a_stuck_thread_does_not_hold_the_process_up():
    start = time.monotonic()
    done = run_python("""
        import sys, threading, time
        from aia_jax.processes.ending import end_within
        threading.Thread(target=lambda: time.sleep(80)).start()
        print("last words")
        end_within(0.2, 75)
        sys.exit(75)
    """)
    assert (done.returncode, done.stdout) == (75, "last words\n") and time.monotonic() - start < 60


def test_signals_no_longer_disturb_the_end():
    done = run_python("""
        import os, signal, sys
        from aia_jax.processes.ending import leave
        status = leave(1)
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        sys.exit(status)
    """)
    assert (done.returncode, done.stderr) == (1, "")
