"""Networks that take turns, each in a process of its own: none leaves its memory to another or keeps it from it."""

import multiprocessing
import os
import statistics
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

Facts = dict[str, Any]
Prepare = Callable[..., tuple[Callable[[], Any], Facts]]


def in_turns(prepare: Prepare, networks: dict[str, tuple[Any, ...]], rounds: int) -> tuple[dict[str, list[float]], dict[str, Facts]]:
    """Times a call of each network, one after another, `rounds` times. Only one process works at a time.

    Args:
        prepare: a function of a module, called in the network's process with the network's arguments: the call to time, which ends when its
            result is there, and facts about it. The call is made once before any is timed.
        networks: each one's arguments, by its name.

    Returns:
        By name, the seconds of each round, and the facts.

    Raises:
        SystemExit: if a process ends early; it has printed why.
    """
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # several processes may share an accelerator
    context = multiprocessing.get_context("spawn")
    pipes, facts = {}, {}
    seconds: dict[str, list[float]] = {name: [] for name in networks}
    for name, arguments in networks.items():
        pipes[name], theirs = context.Pipe()
        context.Process(target=_serve, args=(theirs, prepare, arguments), daemon=True).start()
        theirs.close()
        facts[name] = _received(pipes[name], name)
    for _ in range(rounds):
        for name, pipe in pipes.items():
            pipe.send("go")
            seconds[name].append(_received(pipe, name))
    for pipe in pipes.values():
        pipe.send(None)
    return seconds, facts


def ratio(times: list[float], to: list[float]) -> float:
    """The median over rounds: what disturbs both sides of a round alike does not count."""
    return statistics.median(a / b for a, b in zip(times, to, strict=True))


def _received(pipe: Connection, name: str) -> Any:
    try:
        return pipe.recv()
    except EOFError:
        raise SystemExit(f"error: {name}: its process ended early") from None


def _serve(pipe: Connection, prepare: Prepare, arguments: tuple[Any, ...]) -> None:
    call, facts = prepare(*arguments)
    call()
    pipe.send(facts)
    while pipe.recv():
        start = time.perf_counter()
        call()
        pipe.send(time.perf_counter() - start)
