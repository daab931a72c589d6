"""What both sides of gpu.py measure, in which order, and how a step is timed. Needs the standard
library only.
"""

import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

NETWORKS = {
    "TSN": {"temporal": "tsn", "attention": "none"},
    "AIA(TSN)": {"temporal": "tsn", "attention": "CinST->STinC"},
    "TSM": {"temporal": "tsm", "attention": "none"},
    "AIA(TSM)": {"temporal": "tsm", "attention": "CinST->STinC"},
}
MODES = ("training", "evaluation")
NUM_CLASSES = 174
ROUNDS = 5  # of `round_seconds` each, about
NO_TIME_LEFT = "no time left"


def options() -> SimpleNamespace:
    """What gpu.py gave to its child: networks, clip [T, H, W], batches, round_seconds, compiled,
    profile, deadline.
    """
    return SimpleNamespace(**json.loads(sys.argv[1]))


def emit(**row: Any) -> None:
    """One line for gpu.py, at once: a child that is ended for time has told what it found."""
    print(json.dumps(row), flush=True)


def jobs(wanted: SimpleNamespace) -> Iterator[tuple[str, str, int]]:
    """(network, mode, batch), what matters most first: small batches before large ones, training
    before evaluation, TSN before TSM.
    """
    for batch, mode, network in itertools.product(sorted(wanted.batches), MODES, wanted.networks):
        yield network, mode, batch


def sweep(
    wanted: SimpleNamespace,
    measure: Callable[..., dict[str, Any]],
    is_out_of_memory: Callable[[Exception], bool],
    **which: Any,
) -> None:
    """Emits a row for every job, until the time is over.

    What did not fit in memory is not tried with a larger batch.

    Args:
        measure: (network, mode, batch, **which) → the row's numbers, or why there are none as
            "failed".
        is_out_of_memory: tells that exception from a mistake.
        which: goes into every row.
    """
    full = set()
    for network, mode, batch in jobs(wanted):
        job = {"network": network, "mode": mode, "batch": batch, **which}
        if (network, mode) in full:
            continue
        if time.time() > wanted.deadline:
            emit(**job, failed=NO_TIME_LEFT)
            continue
        try:
            emit(**job, **measure(**job))
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            full.add((network, mode))
            emit(**job, failed="out of memory")


def seconds_to_measure(wanted: SimpleNamespace) -> float:
    """What one job takes, about: its rounds, and to get ready."""
    return (ROUNDS + 1) * wanted.round_seconds + 2


def seconds_per_step(
    step: Callable[[], None], wait: Callable[[], None], wanted: SimpleNamespace
) -> float:
    """Median over rounds of many steps that are queued at once and waited for together, as a
    training loop runs them.

    A round ends within `round_seconds` unless a single step takes longer; of steps that long there
    are fewer rounds, but two at least.
    """

    def one_round(steps: int) -> float:
        start = time.perf_counter()
        for _ in itertools.repeat(None, steps):
            step()
        wait()
        return (time.perf_counter() - start) / steps

    one_round(2)
    steps = max(1, int(wanted.round_seconds / one_round(2)))
    rounds = [one_round(steps), one_round(steps)]
    while sum(rounds) * steps < (ROUNDS - 0.5) * wanted.round_seconds:
        rounds.append(one_round(steps))
    return statistics.median(rounds)
