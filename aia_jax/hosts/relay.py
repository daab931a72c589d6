"""Passes JAX's connection to process 0 on, and never its end."""

import os
import socket
import threading
import time

from aia_jax.hosts.find import split_address

_GRPC_EXCEPTIONS = "no_grpc_proxy"  # hosts that gRPC reaches without a proxy
_CONNECT_SECONDS = 60.0  # process 0 starts JAX's service after the roll call


def start_relay(address: str) -> str:
    """Starts threads that pass connections on to `address`.

    JAX's client aborts its process within milliseconds once its connection breaks. Connected to
    this relay, it does not notice that process 0 has died, and the lifeline ends this process in
    order. What passes is little: JAX's barriers, and what it tells other processes once.

    Returns:
        HOST:PORT of the relay, in this process.
    """
    server = socket.create_server(("127.0.0.1", 0))
    _use_no_proxy()
    threading.Thread(target=_accept, args=(server, address), name="relay", daemon=True).start()
    return f"127.0.0.1:{server.getsockname()[1]}"


def _use_no_proxy() -> None:
    """Keeps gRPC from reaching the relay through a proxy of the environment."""
    if any(os.environ.get(name) for name in ("grpc_proxy", "https_proxy", "http_proxy")):
        others = os.environ.get(_GRPC_EXCEPTIONS) or os.environ.get("no_proxy")
        os.environ[_GRPC_EXCEPTIONS] = ",".join(filter(None, [others, "127.0.0.1"]))


def _accept(server: socket.socket, address: str) -> None:
    while True:
        near, _ = server.accept()
        threading.Thread(target=_pass_on, args=(near, address), name="relay", daemon=True).start()


def _pass_on(near: socket.socket, address: str) -> None:
    far = _connect(address)
    if far is None:
        near.close()
        return
    for connection in (near, far):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    back = threading.Thread(target=_copy, args=(far, near), name="relay", daemon=True)
    back.start()
    _copy(near, far)  # until JAX closes its end
    far.close()


def _connect(address: str) -> socket.socket | None:
    deadline = time.monotonic() + _CONNECT_SECONDS
    while time.monotonic() < deadline:
        try:
            connection = socket.create_connection(split_address(address), timeout=5)
        except OSError:
            time.sleep(0.1)
        else:
            connection.settimeout(None)
            return connection
    return None


def _copy(source: socket.socket, target: socket.socket) -> None:
    try:
        while content := source.recv(65536):
            target.sendall(content)
    except OSError:
        pass
