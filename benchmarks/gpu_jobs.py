"""The jobs that both sides of gpu.py measure, their order, and how a step is timed.

Needs the standard library only.
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
ROUNDS = 5  # each takes about `round_seconds`
NO_TIME_LEFT = "no time left"


def read_settings() -> SimpleNamespace:
    """Reads the settings that gpu.py gave to this process as its first argument.

    Returns:
        networks: names in `NETWORKS`.
        clip: [T, H, W].
        batches: clips a step.
        round_seconds: about how long one round of steps takes.
        compiled: whether `torch.compile` is measured too.
        profile: folder for traces, or None.
        deadline: when to stop, in seconds since the epoch.
    """
    return SimpleNamespace(**json.loads(sys.argv[1]))


def emit(**row: Any) -> None:
    """Prints a row as one line of JSON, at once: gpu.py keeps it even if it kills this process."""
    print(json.dumps(row), flush=True)


def jobs(settings: SimpleNamespace) -> Iterator[tuple[str, str, int]]:
    """(network, mode, batch) of every job, the most important first.

    Small batches come before large ones, training before evaluation, TSN before TSM.
    """
    for batch, mode, network in itertools.product(
        sorted(settings.batches), MODES, settings.networks
    ):
        yield network, mode, batch


def sweep(
    settings: SimpleNamespace,
    measure: Callable[..., dict[str, Any]],
    is_out_of_memory: Callable[[Exception], bool],
    **labels: Any,
) -> None:
    """Emits a row for every job, until the deadline.

    A network and mode that ran out of memory is not tried with a larger batch.

    Args:
        measure: (network, mode, batch, **labels) → the row's numbers, or the reason why there are
            none as "failed".
        is_out_of_memory: whether an exception of `measure` is lack of memory; others are raised.
        labels: go into every row.
    """
    full = set()
    for network, mode, batch in jobs(settings):
        job = {"network": network, "mode": mode, "batch": batch, **labels}
        if (network, mode) in full:
            continue
        if time.time() > settings.deadline:
            emit(**job, failed=NO_TIME_LEFT)
            continue
        try:
            emit(**job, **measure(**job))
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            full.add((network, mode))
            emit(**job, failed="out of memory")


def seconds_to_measure(settings: SimpleNamespace) -> float:
    """About how long one job takes: its rounds and its preparation."""
    return (ROUNDS + 1) * settings.round_seconds + 2


def seconds_per_step(
    step: Callable[[], None], wait: Callable[[], None], settings: SimpleNamespace
) -> float:
    """The median over rounds. A round queues many steps and waits for the last, as training does.

    A round ends within `round_seconds`, unless a single step takes longer; then there are fewer
    rounds, but at least two.
    """

    def one_round(steps: int) -> float:
        start = time.perf_counter()
        for _ in itertools.repeat(None, steps):
            step()
        wait()
        return (time.perf_counter() - start) / steps

    one_round(2)
    steps = max(1, int(settings.round_seconds / one_round(2)))
    rounds = [one_round(steps), one_round(steps)]
    while sum(rounds) * steps < (ROUNDS - 0.5) * settings.round_seconds:
        rounds.append(one_round(steps))
    return statistics.median(rounds)
