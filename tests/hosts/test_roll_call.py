"""The roll call: a process that is missing, or is not the one that it should be, has a name."""

import socket
import threading
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from aia_jax.errors import RunFailed, UserError
from aia_jax.hosts.roll_call import answer_roll, call_roll


@pytest.fixture
def address() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


@pytest.fixture
def pool():
    with ThreadPoolExecutor(4) as threads:
        yield threads


def error_of(future: Future) -> str:
    with pytest.raises((RunFailed, UserError)) as error:
        future.result(60)
    return str(error.value)


def test_all_come_in_any_order_and_know_each_other(address, pool):
    others = [pool.submit(answer_roll, address, 3, index, 30.0) for index in (2, 1)]
    peers = pool.submit(call_roll, address, 3, 30.0).result(60)
    assert sorted(peer.member.index for peer in peers) == [1, 2]
    assert [other.result(60).member.index for other in others] == [0, 0]
    socket.create_server(("", int(address.split(":")[1]))).close()  # the port is free for JAX


def test_a_missing_process_is_named_to_all_that_have_come(address, pool, capsys):
    first = pool.submit(call_roll, address, 3, 4.0, 1.0)
    second = pool.submit(answer_roll, address, 3, 1, 30.0)
    expected = f"process 2 of 3 did not call process 0 at {address} within 4 s"
    assert expected in error_of(first) and expected in error_of(second)
    said = capsys.readouterr().err
    assert f"note: waiting at {address} for process 2 of 3 for 1" in said
    assert f"note: process 0 is waiting at {address} for process 2 of 3" in said


def test_a_coordinator_that_is_not_there_is_named(address, capsys):
    with pytest.raises(RunFailed, match=rf"process 0 of 2 at {address} \(connection refused\)"):
        answer_roll(address, 2, 1, 1.5, 0.2)
    said = capsys.readouterr().err
    assert said.startswith(f"note: waiting for process 0 of 2 at {address} (")
    assert "after 1.5 s this process ends" in said


def test_a_process_that_was_told_something_else_is_refused(address, pool, capsys):
    first = pool.submit(call_roll, address, 3, 4.0)
    other_count = pool.submit(answer_roll, address, 2, 1, 30.0)
    assert "told of 2 processes, process 0 of 3" in error_of(other_count)
    twice = [pool.submit(answer_roll, address, 3, 1, 30.0) for _ in range(2)]
    refused, present = sorted(map(error_of, twice))
    assert refused.startswith("JAX_PROCESS_ID=1 is that of two processes")
    assert present.startswith("process 2 of 3 did not call") and present == error_of(first)
    assert "note: refused a process on" in capsys.readouterr().err


def test_strangers_at_the_port_are_ignored(address, pool):
    first = pool.submit(call_roll, address, 2, 30.0)
    host, port = address.split(":")
    for content in (
        b"GET / HTTP/1.1\r\n\r\n",
        b"[]\n",
        b'{"index": [1], "count": 2, "host": 1, "pid": 1}\n',
        b"\xff" * 9000,
    ):
        while True:
            try:
                with socket.create_connection((host, int(port))) as stranger:
                    stranger.sendall(content)
                break
            except ConnectionRefusedError:
                threading.Event().wait(0.05)
    other = pool.submit(answer_roll, address, 2, 1, 30.0)
    assert [peer.member.index for peer in first.result(60)] == [1] and other.result(60)


def test_a_port_in_use_is_said(address):
    in_use = pytest.raises(UserError, match=r"cannot listen on port \d+ \(Address already in use")
    with socket.create_server(("", int(address.split(":")[1]))), in_use:
        call_roll(address, 2, 0.5)
