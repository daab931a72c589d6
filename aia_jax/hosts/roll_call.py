"""All processes of a run call process 0 before JAX connects them: a missing one has a name.

Process 0 listens on the coordinator's port. It closes the port when all are there, and JAX's own
service takes it over. The connections stay.
"""

import contextlib
import os
import selectors
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from aia_jax.errors import RunFailed, UserError
from aia_jax.hosts.find import split_address
from aia_jax.hosts.peers import Member, Peer
from aia_jax.processes.silence import format_seconds

FIRST_LINE_SECONDS = 10.0  # of waiting, after which a line says for whom
_NEXT_LINE_SECONDS = 60.0
_POLL = 0.5  # seconds
_CONNECT_SECONDS = 5.0
_ANSWER_SECONDS = 10.0
_PORT_SECONDS = 20.0  # for which an earlier run may still hold the port


def call_roll(
    address: str, count: int, timeout: float, first_line: float = FIRST_LINE_SECONDS
) -> list[Peer]:
    """In process 0: waits until all other processes have called.

    Args:
        address: HOST:PORT, of which this process listens on the port.
        count: processes of the run.
        timeout: seconds of waiting for them.
        first_line: seconds after which a line says who is missing.

    Returns:
        Connections to all others.

    Raises:
        UserError: if the port is in use.
        RunFailed: after `timeout`; names the missing processes.
    """
    present: dict[int, Peer] = {}
    reminder = _Reminder(timeout, first_line)
    with (
        _listen(split_address(address)[1], timeout) as server,
        selectors.DefaultSelector() as selector,
    ):
        selector.register(server, selectors.EVENT_READ)
        while len(present) < count - 1:
            missing = _name_processes([k for k in range(1, count) if k not in present])
            waiting = f"waiting at {address} for {missing} of {count}"
            if reminder.expired():
                line = (
                    f"{missing} of {count} did not call process 0 at {address} within "
                    f"{format_seconds(timeout)}; start all processes with the same "
                    "JAX_COORDINATOR_ADDRESS, and see that they can reach it"
                )
                for peer in present.values():
                    peer.send(end=line)
                raise RunFailed(line)
            if reminder.due(waiting):
                for peer in present.values():
                    peer.send(wait=f"process 0 is {waiting}")
            for key, _ in selector.select(_POLL):
                if key.fileobj is server:
                    connection, _ = server.accept()
                    selector.register(Peer(connection), selectors.EVENT_READ)
                else:
                    _hear(key.fileobj, present, count, selector)
    for peer in present.values():
        peer.send(go=count)
    return list(present.values())


def answer_roll(
    address: str, count: int, index: int, timeout: float, first_line: float = FIRST_LINE_SECONDS
) -> Peer:
    """In any other process: calls process 0, and waits until all have called.

    Args:
        address: HOST:PORT of process 0.
        count: processes of the run.
        index: this process's number.
        timeout: seconds of waiting.
        first_line: seconds after which a line says for whom this process waits.

    Returns:
        A connection to process 0.

    Raises:
        UserError: if process 0 refuses this process, as for another count.
        RunFailed: after `timeout`, or if process 0 gives up; names who is missing.
    """
    reminder = _Reminder(timeout, first_line)
    reason = "it has not answered"
    while True:
        waiting = f"process 0 of {count} at {address} ({reason})"
        if reminder.expired():
            raise RunFailed(
                f"no answer of {waiting} within {format_seconds(timeout)}; start process 0, and "
                "see that its host and port are right and can be reached from here"
            )
        reminder.due(f"waiting for {waiting}")
        peer, reason = _call(address, count, index)
        if peer is not None and _wait_for_all(peer, timeout):
            return peer


def _wait_for_all(peer: Peer, timeout: float) -> bool:
    """Waits until process 0 says that all have called; False if it does not answer."""
    deadline = time.monotonic() + _ANSWER_SECONDS
    while time.monotonic() < deadline and (messages := peer.receive()) is not None:
        for message in messages:
            if "refuse" in message:
                raise UserError(message["refuse"])
            if "end" in message:
                raise RunFailed(message["end"])
            if "wait" in message:
                print(f"note: {message['wait']}", file=sys.stderr, flush=True)
            if "present" in message:
                peer.member = Member(**message["present"])
                # Process 0 ends the waiting, and names the missing: it may have begun later.
                deadline = time.monotonic() + timeout + _ANSWER_SECONDS
            if "go" in message:
                return True
        time.sleep(0.1)
    peer.close()
    return False


def _call(address: str, count: int, index: int) -> tuple[Peer | None, str]:
    """Calls process 0.

    Returns:
        The connection, or None; and why there is none.
    """
    try:
        connection = socket.create_connection(split_address(address), _CONNECT_SECONDS)
    except OSError as error:
        time.sleep(_POLL)
        return None, (error.strerror or str(error)).lower()
    peer = Peer(connection)
    peer.send(count=count, **vars(Member.here(index)))
    return peer, "it is connected, but does not answer"


@contextlib.contextmanager
def _listen(port: int, timeout: float) -> Iterator[socket.socket]:
    """A socket that listens on `port`, as JAX's service will: on all addresses."""
    bind = os.environ.get("JAX_COORDINATOR_BIND_ADDRESS")
    host = split_address(bind)[0] if bind else ""
    if bind:
        port = split_address(bind)[1]
    both = not host and socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both or ":" in host else socket.AF_INET
    deadline = time.monotonic() + min(_PORT_SECONDS, timeout)
    while True:
        try:
            server = socket.create_server(
                (host, port), family=family, dualstack_ipv6=both, backlog=1024
            )
            break
        except OSError as error:
            if time.monotonic() >= deadline:
                raise UserError(
                    f"process 0 cannot listen on port {port} ({os.strerror(error.errno)}); end the "
                    "run that uses it, or choose another port in JAX_COORDINATOR_ADDRESS"
                ) from error
            time.sleep(_POLL)
    with server:
        yield server


def _hear(
    peer: Peer, present: dict[int, Peer], count: int, selector: selectors.BaseSelector
) -> None:
    """Takes what a process says: who it is, or that it has gone."""
    messages = peer.receive()
    if messages is None:
        selector.unregister(peer)
        if peer.member is not None:
            del present[peer.member.index]  # it may be started again
        peer.close()
        return
    for message in messages:
        if peer.member is not None or not _is_call(message):
            continue
        index = message["index"]
        refusal = ""
        if message["count"] != count:
            refusal = (
                f"process {index} was told of {message['count']} processes, process 0 of {count}; "
                "give all the same JAX_NUM_PROCESSES"
            )
        elif index in present:
            refusal = (
                f"JAX_PROCESS_ID={index} is that of two processes: another one is "
                f"{present[index].member}; give each its own"
            )
        if refusal:
            peer.send(refuse=refusal)
            print(f"note: refused a process on {message['host']}: {refusal}", file=sys.stderr)
            continue
        peer.member = Member(index, message["host"], message["pid"])
        present[index] = peer
        peer.send(present=vars(Member.here(0)))


def _is_call(message: dict[str, Any]) -> bool:
    """Whether a process of a run says who it is."""
    numbers = [message.get(key) for key in ("count", "index", "pid")]
    return all(type(number) is int for number in numbers) and isinstance(message.get("host"), str)


class _Reminder:
    """Knows when a waiting process has to say so again, and when to give up."""

    def __init__(self, timeout: float, first_line: float):
        self._start = time.monotonic()
        self._timeout, self._next = timeout, first_line

    def _waited(self) -> float:
        return time.monotonic() - self._start

    def expired(self) -> bool:
        return self._waited() >= self._timeout

    def due(self, waiting: str) -> bool:
        """Prints the line if it is time for it, and returns whether it was."""
        if self._waited() < self._next:
            return False
        self._next = self._waited() + _NEXT_LINE_SECONDS
        print(
            f"note: {waiting} for {format_seconds(self._waited())}; after "
            f"{format_seconds(self._timeout)} this process ends",
            file=sys.stderr,
            flush=True,
        )
        return True


def _name_processes(indices: Sequence[int]) -> str:
    """ "process 1", "processes 1, 3 and 9 more"."""
    shown = ", ".join(map(str, indices[:8]))
    more = f" and {len(indices) - 8} more" if len(indices) > 8 else ""
    return f"process{'es' * (len(indices) > 1)} {shown}{more}"
