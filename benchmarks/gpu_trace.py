"""Reads a trace of `jax.profiler`: which kernels took the time, and how many bytes each had to move."""

import gzip
import json
from collections import defaultdict
from pathlib import Path

from gpu_program import operation_bytes


def top_kernels(folder: Path, program: str, steps: int, count: int = 15) -> tuple[list[dict], float]:
    """The kernels of the newest trace in `folder`, those that took longest first.

    Args:
        program: the text of the compiled program (`compiled.as_text()`), for the bytes of each operation.
        steps: how many the trace is of; all numbers are per step.

    Returns:
        [{"name", "seconds", "calls", "bytes" (inputs and output of the operation once a call; None if the program has no such name)}],
        and the seconds of all kernels together, also those not listed.

    Raises:
        FileNotFoundError: the folder holds no trace.
    """
    traces = list(folder.glob("plugins/profile/*/*.trace.json.gz"))
    if not traces:
        raise FileNotFoundError(f"no trace in {folder}")
    with gzip.open(max(traces, key=lambda path: path.stat().st_mtime), "rt") as file:
        events = json.load(file)["traceEvents"]
    seconds, calls = defaultdict(float), defaultdict(int)
    for event in _kernel_events(events):
        name = event.get("args", {}).get("hlo_op") or event["name"]
        seconds[name] += event["dur"] / 1e6 / steps  # microseconds in the trace
        calls[name] += 1
    sizes = operation_bytes(program)
    top = sorted(seconds, key=seconds.get, reverse=True)[:count]
    rows = [{"name": name, "seconds": seconds[name], "calls": calls[name] / steps, "bytes": sizes.get(name)} for name in top]
    return rows, sum(seconds.values())


def _kernel_events(events: list[dict]) -> list[dict]:
    """On a GPU what its streams ran; elsewhere what carries the name of an operation."""
    names = {(e["pid"], e.get("tid")): e["args"]["name"] for e in events if e.get("name") in ("process_name", "thread_name")}
    complete = [e for e in events if e.get("ph") == "X"]
    on_streams = [
        e for e in complete if "/device:GPU" in names.get((e["pid"], None), "") and names.get((e["pid"], e["tid"]), "").startswith("Stream")
    ]
    return on_streams or [e for e in complete if "hlo_op" in e.get("args", {})]
