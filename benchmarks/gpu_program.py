"""Reads the text of a program that XLA compiled for a GPU: what its kernels are, and how many bytes
each has to move.
"""

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?([\w.\-]+) = (.*?) ([a-z][\w\-]*)\((.*)$")
_SHAPE = re.compile(r"\b([a-z]+[0-9]+[a-z0-9]*|pred)\[([\d,]*)\]")
_CALLED = re.compile(
    r"(?:to_apply|body|calls|called_computations|true_computation|false_computation|branch_computations)=\{?%?([\w.\-]+)"
)
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
# They name or hold values and start nothing on a device; and those whose kernels are in a
# computation that they call.
_NO_KERNEL = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all"}
_CALLS = {"call", "while", "conditional", "async-start"}


class Kernel(NamedTuple):
    """One operation of a program.

    Attributes:
        name: as in the program and in a trace.
        source: the path of JAX operations it was made for; empty where XLA made it up.
        bytes: of its inputs and its output, once a run. What it reads only a part of, or twice, is
            counted once and whole.
        runs: a step.
    """

    name: str
    source: str
    bytes: int
    runs: int


def kernels(program: str) -> Iterator[Kernel]:
    """The operations that run on the device, those of loops as often as their bodies run."""
    computations, entry = _computations(program)
    yield from _kernels(computations, entry, 1)


Lines = list[tuple[str, str, str, str]]  # name, shape, operation, the rest of the line


def _computations(program: str) -> tuple[dict[str, Lines], str]:
    """Computation → its instructions, and the name of the one that is run."""
    computations: dict[str, Lines] = {}
    entry = name = ""
    for line in program.splitlines():
        if head := _COMPUTATION.match(line):
            name = head[2]
            entry = name if head[1] else entry
        elif match := _INSTRUCTION.match(line):
            computations.setdefault(name, []).append(match.groups())
    return computations, entry


def _kernels(computations: dict[str, Lines], computation: str, runs: int) -> Iterator[Kernel]:
    lines = computations.get(computation, [])
    sizes = _bytes(lines)
    for name, _, operation, rest in lines:
        if operation in _CALLS:
            trips = _TRIPS.search(rest)
            for called in _CALLED.findall(rest):
                yield from _kernels(computations, called, runs * (int(trips[1]) if trips else 1))
        elif operation not in _NO_KERNEL:
            source = re.search(r'op_name="([^"]*)"', rest)
            yield Kernel(name, source[1] if source else "", sizes[name], runs)


def _bytes(lines: Lines) -> dict[str, int]:
    output = {name: _shape_bytes(shape) for name, shape, _, _ in lines}
    inputs = {
        name: set(re.findall(r"%([\w.\-]+)", rest.split(")", 1)[0])) for name, _, _, rest in lines
    }
    return {
        name: output[name] + sum(output.get(each, 0) for each in inputs[name]) for name in output
    }


def _shape_bytes(text: str) -> int:
    """Of all arrays that a type names, "(bf16[8,56]{1,0}, f32[])" say."""
    total = 0
    for kind, sizes in _SHAPE.findall(text):
        bits = 8 if kind == "pred" else int(re.search(r"\d+", kind).group())
        total += math.prod(int(size) for size in sizes.split(",") if size) * bits // 8
    return total
