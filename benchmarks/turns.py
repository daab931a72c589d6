"""Networks that take turns, each in a process of its own: what one allocates is neither at hand for
another nor in its way.
"""

import multiprocessing
import os
import statistics
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

Facts = dict[str, Any]
Prepare = Callable[..., tuple[Callable[[], Any], Facts]]


def in_turns(
    prepare: Prepare, networks: dict[str, tuple[Any, ...]], rounds: int
) -> tuple[dict[str, list[float]], dict[str, Facts]]:
    """Times a call of each network, one after another, `rounds` times. Only one process works at a
    time.

    Args:
        prepare: a function of a module, called in the network's process with the network's
            arguments: the call to time, which ends when its result is there, and facts about it.
            The call is made once before any is timed.
        networks: each one's arguments, by its name.

    Returns:
        By name, the seconds of each round, and the facts.

    Raises:
        SystemExit: if a process ends early, with its name and exit status; of an exception it has
            printed the traceback.
    """
    os.environ.setdefault(
        "XLA_PYTHON_CLIENT_PREALLOCATE", "false"
    )  # several processes may share a GPU
    context = multiprocessing.get_context("spawn")
    workers, facts = {}, {}
    seconds: dict[str, list[float]] = {name: [] for name in networks}
    for name, arguments in networks.items():
        ours, theirs = context.Pipe()
        process = context.Process(
            target=_serve, args=(theirs, prepare, arguments), daemon=True, name=name
        )
        process.start()
        theirs.close()
        workers[name] = process, ours
        facts[name] = _answer(*workers[name])
    for _ in range(rounds):
        for name, worker in workers.items():
            seconds[name].append(_answer(*worker, to="go"))
    for _, pipe in workers.values():
        pipe.close()  # which ends the process
    return seconds, facts


def ratio(times: list[float], to: list[float]) -> float:
    """The median over rounds: what disturbs both sides of a round alike does not count."""
    return statistics.median(a / b for a, b in zip(times, to, strict=True))


def _answer(process: BaseProcess, pipe: Connection, to: str | None = None) -> Any:
    try:
        if to is not None:
            pipe.send(to)
        return pipe.recv()
    except (EOFError, OSError):
        process.join()
        raise SystemExit(
            f"error: {process.name}: its process ended early, with status {process.exitcode}"
        ) from None


def _serve(pipe: Connection, prepare: Prepare, arguments: tuple[Any, ...]) -> None:
    call, facts = prepare(*arguments)
    call()
    pipe.send(facts)
    while True:
        try:
            pipe.recv()
        except (EOFError, OSError):
            return  # all is measured, or the parent is gone
        start = time.perf_counter()
        call()
        pipe.send(time.perf_counter() - start)
