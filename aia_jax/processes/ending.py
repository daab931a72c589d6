"""Ends this process in any case, also where a thread or a child process is stuck."""

import contextlib
import os
import signal
import sys
import threading

END_SECONDS = 30.0  # that threads and child processes have to end by themselves


def ignore_stop_signals() -> None:
    """From here on Ctrl-C and SIGTERM do nothing: the process is ending already.

    A signal that came while it ends would only add tracebacks.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def end_within(seconds: float, status: int) -> threading.Timer:
    """Ends this process after `seconds`, with the exit status, if it has not ended by then.

    The interpreter waits for its threads and child processes, so one that is stuck in a read would
    hold it up for ever.
    """

    def end() -> None:
        flush_output()
        os._exit(status)

    timer = threading.Timer(seconds, end)
    timer.daemon = True  # or it would itself hold the process up
    timer.start()
    return timer


def leave(status: int) -> int:
    """Ends a command: no signal disturbs its end any more, and nothing can hold it up.

    Returns:
        `status`, for `sys.exit`.
    """
    ignore_stop_signals()
    end_within(END_SECONDS, status)
    return status


def flush_output() -> None:
    """Writes out what was printed, as `os._exit` does not."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):  # closed, or nobody listens
            stream.flush()
