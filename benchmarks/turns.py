"""Times networks in turns, each in a process of its own.

In one process a network would find the caches and the memory as another left them, and ratios would
depend on the order.
"""

import multiprocessing
import os
import statistics
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

Facts = dict[str, Any]  # what a process reports beside its times: device, seconds to compile, …
Prepare = Callable[..., tuple[Callable[[], Any], Facts]]


def time_in_turns(
    prepare: Prepare, networks: dict[str, tuple[Any, ...]], rounds: int
) -> tuple[dict[str, list[float]], dict[str, Facts]]:
    """Times a call of each network, one after another, in each of `rounds` rounds.

    Only one process works at a time.

    Args:
        prepare: makes the call to time and the facts about it. It runs in the network's process
            with the network's arguments, so it must be a function of a module. The call must block
            until its result is ready; it is made once before any is timed.
        networks: name → arguments of `prepare`.
        rounds: how often each network is timed.

    Returns:
        Name → seconds of each round, and name → facts.

    Raises:
        SystemExit: if a process ends early, with the network's name and the exit status. The
            process itself has printed the traceback of an exception.
    """
    # Several processes may share a GPU.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
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
        facts[name] = _receive(*workers[name])
    for _ in range(rounds):
        for name, worker in workers.items():
            seconds[name].append(_receive(*worker, request="go"))
    for _, pipe in workers.values():
        pipe.close()  # ends the process
    return seconds, facts


def median_ratio(times: list[float], baseline: list[float]) -> float:
    """The median over rounds of the ratio of two times of one round.

    A busy machine slows both times of a round alike, so their ratio stays.
    """
    return statistics.median(a / b for a, b in zip(times, baseline, strict=True))


def _receive(process: BaseProcess, pipe: Connection, request: str | None = None) -> Any:
    """Sends a request, if any, and waits for the answer; a dead process ends the program."""
    try:
        if request is not None:
            pipe.send(request)
        return pipe.recv()
    except (EOFError, OSError):
        process.join()
        raise SystemExit(
            f"error: {process.name}: its process ended early, with status {process.exitcode}"
        ) from None


def _serve(pipe: Connection, prepare: Prepare, arguments: tuple[Any, ...]) -> None:
    """Runs in a network's process: sends the facts, then the seconds of a call for each request."""
    call, facts = prepare(*arguments)
    call()
    pipe.send(facts)
    while True:
        try:
            pipe.recv()
        except (EOFError, OSError):
            return  # the parent has closed the pipe, or has ended
        start = time.perf_counter()
        call()
        pipe.send(time.perf_counter() - start)
