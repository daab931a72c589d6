"""Reads a trace of `jax.profiler`: which kernels took the time, and how many bytes each had to
move.
"""

import csv
import gzip
import json
import re
from collections import defaultdict
from pathlib import Path

from benchmarks import gpu_program


def kernels(folder: Path, program: str, steps: int) -> list[dict]:
    """The kernels of the newest trace in `folder`, those that took longest first.

    Args:
        program: the text of the compiled program (`compiled.as_text()`), for what it tells of each
            operation.
        steps: how many the trace is of; all numbers are per step.

    Returns:
        [{"name", "seconds", "calls", "bytes" (inputs and output of the operation once a call; None
        if the program has no such name), "source" (the path of JAX operations it was made for;
        empty if unknown)}].

    Raises:
        FileNotFoundError: the folder holds no trace.
    """
    traces = list(folder.glob("plugins/profile/*/*.trace.json.gz"))
    if not traces:
        raise FileNotFoundError(f"no trace in {folder}")
    with gzip.open(max(traces, key=lambda path: path.stat().st_mtime), "rt") as file:
        events = json.load(file)["traceEvents"]
    known = {kernel.name: kernel for kernel in gpu_program.kernels(program)}
    symbols = {
        re.sub(r"[.\-]", "_", name): name for name in known
    }  # names of kernels that XLA generates have neither dots nor dashes
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
    """A table of the kernels."""
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
    """On a GPU what its streams ran; elsewhere what carries the name of an operation."""
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
