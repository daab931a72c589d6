"""How a worker process starts: deaf to signals, showing life, and bound to its parent's life."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import connection, resource_tracker

from aia_jax.processes.silence import show_life_while_computing

_QUIET_TRACKER = "ignore:resource_tracker:UserWarning"
_STOP_SIGNALS = {signal.SIGINT, signal.SIGTERM}


@contextmanager
def deaf_children() -> Iterator[None]:
    """Processes that this thread starts inside are deaf to Ctrl-C and SIGTERM from their birth.

    A terminal sends Ctrl-C to all processes. One that comes while a worker still imports would end
    it with a traceback, before `start_child` can ignore it. Threads that are started inside inherit
    the mask too; the main thread of the program takes their signals.
    """
    _start_resource_tracker()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_resource_tracker() -> None:
    """Starts the process that cleans up after this one, so that it does so without complaint.

    It removes the semaphores of a process that was killed, and warns of each. That this process was
    killed is said elsewhere.
    """
    before = os.environ.get("PYTHONWARNINGS")
    os.environ["PYTHONWARNINGS"] = ",".join(filter(None, [before, _QUIET_TRACKER]))
    try:
        resource_tracker.ensure_running()
    finally:
        del os.environ["PYTHONWARNINGS"]
        if before is not None:
            os.environ["PYTHONWARNINGS"] = before


def start_child(show_life: Callable[[], None]) -> None:
    """In a worker process: sets up what all workers have.

    It ignores Ctrl-C and SIGTERM, because the parent decides what becomes of the work, and ends
    workers by SIGKILL. It ends when its parent does, however that dies: else the workers of a
    killed run would go on beside those of the next.

    Args:
        show_life: called each second in which this process computes.
    """
    for number in _STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    show_life_while_computing(show_life)
    threading.Thread(target=_exit_with_parent, name="parent-watch", daemon=True).start()


def _exit_with_parent() -> None:
    connection.wait([multiprocessing.parent_process().sentinel])
    os._exit(1)
