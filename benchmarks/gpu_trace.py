"""Reads a trace of `jax.profiler`: the kernels, the time that each took, the bytes it moved."""

import csv
import gzip
import json
import re
from collections import defaultdict
from pathlib import Path

from benchmarks import gpu_program


def read_kernels(folder: Path, program: str, steps: int) -> list[dict]:
    """The kernels of the newest trace in `folder`, those that took longest first.

    Args:
        folder: the one that `jax.profiler.trace` wrote.
        program: the text of the compiled program (`compiled.as_text()`), which has the bytes and
            the source of each operation.
        steps: the number of steps in the trace; all numbers are per step.

    Returns:
        One dictionary a kernel:
        "name": of the operation, or of the kernel where the program has no such operation.
        "seconds", "calls": per step.
        "bytes": inputs and output of the operation, per call; None if it is not in the program.
        "source": the path of the JAX operations it was made for; empty if unknown.

    Raises:
        FileNotFoundError: the folder holds no trace.
    """
    traces = list(folder.glob("plugins/profile/*/*.trace.json.gz"))
    if not traces:
        raise FileNotFoundError(f"no trace in {folder}")
    with gzip.open(max(traces, key=lambda path: path.stat().st_mtime), "rt") as file:
        events = json.load(file)["traceEvents"]
    known = {kernel.name: kernel for kernel in gpu_program.list_kernels(program)}
    # XLA replaces dots and dashes in the names of the kernels that it generates.
    symbols = {re.sub(r"[.\-]", "_", name): name for name in known}
    seconds, calls = defaultdict(float), defaultdict(int)
    for event in _kernel_events(events):
        name = event.get("args", {}).get("hlo_op") or symbols.get(event["name"], event["name"])
        seconds[name] += event["dur"] / 1e6 / steps  # microseconds in the trace
        calls[name] += 1
    return [
        {
            "name": name,
            "seconds": seconds[name],
            "calls": calls[name] / steps,
            "bytes": known[name].bytes if name in known else None,
            "source": known[name].source if name in known else "",
        }
        for name in sorted(seconds, key=seconds.get, reverse=True)
    ]


def write_csv(path: Path, rows: list[dict]) -> None:
    """Writes the kernels as a table."""
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["name", "ms", "calls", "bytes", "source"])
        table.writerows(
            [
                row["name"],
                f"{1e3 * row['seconds']:.4f}",
                f"{row['calls']:g}",
                row["bytes"],
                row["source"],
            ]
            for row in rows
        )


def _kernel_events(events: list[dict]) -> list[dict]:
    """The events of a GPU's streams; without a GPU the events that name an operation."""
    names = {
        (e["pid"], e.get("tid")): e["args"]["name"]
        for e in events
        if e.get("name") in ("process_name", "thread_name")
    }
    complete = [e for e in events if e.get("ph") == "X"]
    on_streams = [
        e
        for e in complete
        if "/device:GPU" in names.get((e["pid"], None), "")
        and names.get((e["pid"], e["tid"]), "").startswith("Stream")
    ]
    return on_streams or [e for e in complete if "hlo_op" in e.get("args", {})]
