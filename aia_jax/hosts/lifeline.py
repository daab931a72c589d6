"""Watches the other processes of a run, and ends this one if one of them dies.

Every process is connected to process 0, which hears of a death at once, because the system closes
the dead process's connections, and tells the others. A process that compiles, writes or is stopped
for a while is not dead: its system keeps the connection.
"""

import contextlib
import os
import selectors
import socket
import sys
import threading
import time
from collections.abc import Sequence

from aia_jax.errors import EXIT_FAILED
from aia_jax.hosts.peers import Peer
from aia_jax.processes.ending import flush_output
from aia_jax.processes.silence import (
    END_SECONDS,
    WARN_SECONDS,
    SilenceWatch,
    WorkerLost,
    describe_state,
)

_PING_SECONDS = 5.0
_LOOK_SECONDS = 0.5
# After another process has failed: to come to the same error, and to say it in own words.
_GRACE_SECONDS = 5.0
_CLOSE_SECONDS = 2.0  # for the others to hear why, before the connection to them breaks
_RUN_AGAIN = "start all processes again to go on from the last checkpoint"


class Lifeline:
    """A thread that watches the connections to other processes.

    Args:
        index: this process's number in the run.
        peers: connections to all others, in process 0; elsewhere to process 0.
        warn_after: seconds of silence of a process after which a line names it.
        end_after: seconds of silence that end this process.
    """

    def __init__(
        self,
        index: int,
        peers: Sequence[Peer],
        *,
        warn_after: float = WARN_SECONDS,
        end_after: float = END_SECONDS,
    ):
        self._index, self._peers = index, list(peers)
        self._watches = {peer: SilenceWatch(warn_after, end_after) for peer in peers}
        self._heard = dict.fromkeys(peers, 0)  # messages
        self._departed: set[Peer] = set()  # said goodbye
        self._verdict: tuple[float, str] | None = None  # when to end, and the line
        self._leaving = threading.Event()
        self._lock = threading.Lock()  # of `_peers`, to which two threads write

    def start(self) -> None:
        threading.Thread(target=self._run, name="lifeline", daemon=True).start()

    def verdict(self) -> str:
        """The line that ends this process soon, because another one has failed; else empty."""
        return self._verdict[1] if self._verdict else ""

    def say_goodbye(self) -> None:
        """Tells the others that this process ends in order."""
        self._tell_all(bye=self._index)

    def say_failed(self, status: int) -> None:
        """Tells the others that this process ends by an error; returns when it may end."""
        self._leaving.set()
        self._tell_all(failed=status, index=self._index)
        self._wait_for_others(_GRACE_SECONDS + _CLOSE_SECONDS)

    def _tell_all(self, *, besides: Peer | None = None, **message: object) -> None:
        with self._lock:
            for peer in self._peers:
                if peer is not besides:
                    peer.send(**message)

    def _wait_for_others(self, seconds: float) -> None:
        """In process 0: lets the others end first.

        JAX's service is in this process, and its end aborts a process that still uses it.
        """
        deadline = time.monotonic() + seconds
        while self._index == 0 and self._peers and time.monotonic() < deadline:
            if threading.current_thread().name == "lifeline":
                self._hear_all()
            time.sleep(0.05)

    def _run(self) -> None:
        last_ping = 0.0
        while True:
            if time.monotonic() - last_ping >= _PING_SECONDS:
                last_ping = time.monotonic()
                self._tell_all(ping=self._index)
            self._hear_all()
            if self._leaving.is_set():
                continue
            for peer in set(self._peers) - self._departed:
                try:
                    self._watches[peer].check(self._heard[peer], lambda peer=peer: _name(peer))
                except WorkerLost as lost:
                    self._end(f"{lost}; {_RUN_AGAIN}")
            if self._verdict and time.monotonic() >= self._verdict[0]:
                self._end(self._verdict[1])

    def _hear_all(self) -> None:
        """Takes what the others have sent; waits for it for half a second."""
        if not self._peers:
            time.sleep(_LOOK_SECONDS)
            return
        with selectors.DefaultSelector() as selector:
            for peer in self._peers:
                selector.register(peer, selectors.EVENT_READ)
            ready = [key.fileobj for key, _ in selector.select(_LOOK_SECONDS)]
        for peer in ready:
            messages = peer.receive()
            if messages is None:
                self._drop(peer)
                continue
            self._heard[peer] += len(messages)
            for message in messages:
                self._take(peer, message)

    def _take(self, peer: Peer, message: dict) -> None:
        if "bye" in message:
            self._departed.add(peer)
        if "lost" in message and not self._leaving.is_set():
            self._end(message["lost"])
        if "failed" in message:
            self._departed.add(peer)
            line = message.get("line") or (
                f"{peer.member} has ended with status {message['failed']}; its own output says "
                f"why; {_RUN_AGAIN} once that is repaired"
            )
            self._verdict = self._verdict or (time.monotonic() + _GRACE_SECONDS, line)
            if self._index == 0:
                self._tell_all(besides=peer, failed=message["failed"], line=line)

    def _drop(self, peer: Peer) -> None:
        """The connection has ended: the other process has left, or it is dead."""
        with self._lock:
            self._peers.remove(peer)
        expected = peer in self._departed or self._verdict or self._leaving.is_set()
        if not expected:
            self._end(
                f"{peer.member} has died: it was killed, crashed, or its machine or network is "
                f"gone; {_RUN_AGAIN}"
            )

    def _end(self, line: str) -> None:
        """Ends this process, and in process 0 all others with it."""
        self._leaving.set()
        with contextlib.suppress(OSError, ValueError):
            print(f"error: {line}", file=sys.stderr, flush=True)
        if self._index == 0:
            self._tell_all(lost=line)
            self._wait_for_others(_CLOSE_SECONDS)
        flush_output()
        os._exit(EXIT_FAILED)


def _name(peer: Peer) -> str:
    here = peer.member.host == socket.gethostname()
    return str(peer.member) + (describe_state(peer.member.pid) if here else "")
