"""Connections between the processes of a run, which carry lines of JSON."""

import json
import os
import socket
from dataclasses import dataclass
from typing import Any

_DEAD_SECONDS = 20  # without an answer of the other machine's system
_MAX_LINE = 4096  # bytes


@dataclass(frozen=True)
class Member:
    """One process of a run, as the others name it."""

    index: int
    host: str
    pid: int

    @classmethod
    def here(cls, index: int) -> "Member":
        return cls(index, socket.gethostname(), os.getpid())

    def __str__(self) -> str:
        return f"process {self.index} (on {self.host}, process id {self.pid})"


class Peer:
    """A connection to another process of the run.

    Attributes:
        member: which one; None as long as it has not said so.
    """

    def __init__(self, connection: socket.socket, member: Member | None = None):
        self.member = member
        self._connection, self._received = connection, b""
        connection.setblocking(False)
        _notice_dead_machines(connection)

    def fileno(self) -> int:
        return self._connection.fileno()

    def send(self, **message: Any) -> bool:
        """Sends a message; returns False if the connection is broken."""
        try:
            # A line fits into the system's buffer, so this does not wait.
            self._connection.sendall(json.dumps(message).encode() + b"\n")
            return True
        except BlockingIOError:  # the other one reads nothing; its silence is noticed elsewhere
            return True
        except OSError:
            return False

    def receive(self) -> list[dict[str, Any]] | None:
        """The messages that have arrived; None if the other end is gone.

        Something that is no message of ours counts as gone too.
        """
        try:
            content = self._connection.recv(_MAX_LINE)
        except BlockingIOError:
            return []
        except OSError:
            return None
        *lines, self._received = (self._received + content).split(b"\n")
        if not content or len(self._received) > _MAX_LINE:
            return None
        try:
            messages = [json.loads(line) for line in lines]
        except ValueError:
            return None
        return messages if all(isinstance(message, dict) for message in messages) else None

    def close(self) -> None:
        self._connection.close()


def _notice_dead_machines(connection: socket.socket) -> None:
    """Has the system break a connection whose other machine is gone.

    The other system answers even where the process there is stopped or busy. So this finds dead
    machines and networks, and never takes a busy process for a dead one.
    """
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    options = {
        "TCP_NODELAY": 1,
        "TCP_KEEPIDLE": 5,  # seconds
        "TCP_KEEPINTVL": 5,  # seconds
        "TCP_KEEPCNT": _DEAD_SECONDS // 5 - 1,
        "TCP_USER_TIMEOUT": _DEAD_SECONDS * 1000,  # milliseconds
    }
    for name, value in options.items():
        if hasattr(socket, name):  # macOS lacks some
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
