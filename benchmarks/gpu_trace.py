"""Reads a trace of `jax.profiler`: which kernels took the time, and how many bytes each had to move."""

import gzip
import json
import math
import re
from collections import defaultdict
from pathlib import Path

_INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?([\w.\-]+) = (.*?) [a-z][\w\-]*\((.*)$")
_SHAPE = re.compile(r"\b([a-z]+[0-9]+[a-z0-9]*|pred)\[([\d,]*)\]")


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


def operation_bytes(program: str) -> dict[str, int]:
    """Operation → bytes of its inputs and its output, from the text of a compiled program.

    What a fusion reads only a part of, or reads twice, is counted once and whole.
    """
    lines = [match.groups() for line in program.splitlines() if (match := _INSTRUCTION.match(line))]
    output = {name: _shape_bytes(shape) for name, shape, _ in lines}
    sizes = {}
    for name, _, rest in lines:
        inputs = re.findall(r"%([\w.\-]+)", rest.split(")", 1)[0])
        sizes[name] = output[name] + sum(output.get(each, 0) for each in inputs)
    return sizes


def _shape_bytes(text: str) -> int:
    """Of all arrays that a type names, "(bf16[8,56]{1,0}, f32[])" say."""
    total = 0
    for kind, sizes in _SHAPE.findall(text):
        bits = 8 if kind == "pred" else int(re.search(r"\d+", kind).group())
        total += math.prod(int(size) for size in sizes.split(",") if size) * bits // 8
    return total
