"""The processes of one run on several hosts: they find each other, and none outlives another.

JAX connects the processes by a service in process 0. It says nothing while it waits for one, and
where a process dies the others hang, until C++ code aborts them. So they call a roll before JAX
connects them, and keep the connections: `Lifeline` ends the run by one line that names the process.
"""

import atexit
import os
import sys
import time
from types import TracebackType

import jax

from aia_jax.errors import EXIT_FAILED, EXIT_STOPPED, UserError
from aia_jax.hosts.find import Place, find_place
from aia_jax.hosts.lifeline import Lifeline
from aia_jax.hosts.relay import start_relay
from aia_jax.hosts.roll_call import answer_roll, call_roll
from aia_jax.processes import ending
from aia_jax.processes.ending import END_SECONDS, end_within, flush_output, ignore_stop_signals

TIMEOUT_VARIABLE = "AIA_HOSTS_TIMEOUT"
_DEFAULT_TIMEOUT = 300.0  # seconds that all processes have to come
# The lifeline notices a death at once and a silence after ten minutes: JAX must not come first.
_JAX_HEARTBEAT_SECONDS = 1200
_JAX_SHUTDOWN_SECONDS = 300  # JAX's default; the first process to finish waits for the others
_VERDICT_SECONDS = 2.0  # after an error, for the lifeline to find that a dead process caused it

_lifeline: Lifeline | None = None
_failed = False


def initialise_hosts() -> None:
    """Connects the processes of one run, if the environment says that there are several.

    Call it before any other function of JAX. The environment says so by JAX_COORDINATOR_ADDRESS,
    JAX_NUM_PROCESSES and JAX_PROCESS_ID (on machines of any kind), by `srun` with more than one
    task, or by being a TPU pod. On a single machine this function does nothing. AIA_HOSTS_TIMEOUT
    says how many seconds the processes wait for each other, by default 300.

    From here on this process ends with status 1 if another one dies. Give the exit status to
    `leave` at the end, or the others take an error for an orderly end.

    Raises:
        UserError: if the variables do not fit together, or the others do not agree with them.
        RunFailed: if a process does not come in time; names it.
    """
    global _lifeline
    if jax.distributed.is_initialized():
        return
    timeout = _read_timeout()
    place = find_place(timeout)
    if place is None:
        return
    if place.count == 1:
        _connect_jax(place, place.address)
        return
    address = place.address
    if place.index == 0:
        peers = call_roll(place.address, place.count, timeout)
    else:
        peers = [answer_roll(place.address, place.count, place.index, timeout)]
        # Or the death of process 0 would break JAX's connection, and C++ code end this process.
        address = start_relay(place.address)
    _lifeline = Lifeline(place.index, peers)
    _lifeline.start()
    atexit.register(_leave_at_exit)
    sys.excepthook = _report_error
    _connect_jax(place, address)


def leave(status: int) -> int:
    """Ends a command in order: the other hosts hear of it, and nothing can hold it up.

    Args:
        status: the exit status of the command, from `errors.exit_status`.

    Returns:
        The same, for `sys.exit`. After a failure on several hosts it does not return: JAX would
        wait for the others, which may wait for this process.
    """
    global _lifeline
    if _lifeline is None:
        return ending.leave(status)
    ignore_stop_signals()
    lifeline, _lifeline = _lifeline, None
    if status in (0, EXIT_STOPPED):
        lifeline.say_goodbye()
        end_within(_JAX_SHUTDOWN_SECONDS + END_SECONDS, status)
        return status
    lifeline.say_failed(status)
    flush_output()
    os._exit(status)


def _read_timeout() -> float:
    text = os.environ.get(TIMEOUT_VARIABLE, "")
    if not text:
        return _DEFAULT_TIMEOUT
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e6:
        raise UserError(f"{TIMEOUT_VARIABLE}={text}: expected seconds, more than 0")
    return seconds


def _connect_jax(place: Place, address: str) -> None:
    jax.distributed.initialize(
        address,
        place.count,
        place.index,
        place.local_device_ids,
        heartbeat_timeout_seconds=_JAX_HEARTBEAT_SECONDS,
        shutdown_timeout_seconds=_JAX_SHUTDOWN_SECONDS,
    )


def _report_error(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Prints the traceback of an error that nobody caught, unless another process is its cause."""
    global _failed
    _failed = True
    deadline = time.monotonic() + _VERDICT_SECONDS
    # If another process has died, the lifeline ends this one meanwhile.
    while _lifeline is not None and time.monotonic() < deadline:
        if line := _lifeline.verdict():
            print(f"error: {line}", file=sys.stderr)
            return
        time.sleep(0.05)
    sys.__excepthook__(kind, error, trace)


def _leave_at_exit() -> None:
    """Leaves for a program that has not called `leave`."""
    if _lifeline is not None:
        leave(EXIT_FAILED if _failed else 0)
