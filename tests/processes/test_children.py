"""Worker processes leave signals to their parent from their birth on."""

import os
import signal
import subprocess
import sys
import time

from aia_jax.processes.children import deaf_children


def test_a_child_is_deaf_before_it_has_imported_anything():
    program = [sys.executable, "-c", "input()"]
    with deaf_children():
        deaf = subprocess.Popen(program, stdin=subprocess.PIPE)
    hearing = subprocess.Popen(program, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
    with deaf, hearing:
        for child in (deaf, hearing):
            os.kill(child.pid, signal.SIGTERM)
        assert hearing.wait(20) == -signal.SIGTERM
        os.kill(deaf.pid, signal.SIGINT)
        time.sleep(0.1)
        assert deaf.poll() is None
        deaf.kill()


def test_the_parent_still_hears_signals_afterwards():
    before = signal.pthread_sigmask(signal.SIG_BLOCK, set())
    with deaf_children():
        pass
    assert signal.pthread_sigmask(signal.SIG_BLOCK, set()) == before
