"""Reads the text of a program that XLA compiled for a GPU: its kernels and the bytes each moves."""

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?([\w.\-]+) = (.*?) ([a-z][\w\-]*)\((.*)$")
_SHAPE = re.compile(r"\b([a-z]+[0-9]+[a-z0-9]*|pred)\[([\d,]*)\]")
_CALLED = re.compile(
    r"(?:to_apply|body|calls|called_computations|true_computation|false_computation"
    r"|branch_computations)=\{?%?([\w.\-]+)"
)
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
# Operations that name or hold values and start nothing on a device.
_NO_KERNEL = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all"}
# Operations whose kernels are those of the computations that they call.
_CALLS = {"call", "while", "conditional", "async-start"}


class Kernel(NamedTuple):
    """One operation of a program.

    Attributes:
        name: as in the program and in a trace.
        source: the path of the JAX operations it was made for; empty where XLA added it.
        bytes: the sizes of its inputs and its output. An input that is read twice, or only in
            part, is counted once and whole.
        runs: how often it runs in a step.
    """

    name: str
    source: str
    bytes: int
    runs: int


def list_kernels(program: str) -> Iterator[Kernel]:
    """The operations that run on the device; `runs` counts the iterations of loops."""
    computations, entry = _parse_computations(program)
    yield from _list_kernels(computations, entry, 1)


Lines = list[tuple[str, str, str, str]]  # name, shape, operation, the rest of the line


def _parse_computations(program: str) -> tuple[dict[str, Lines], str]:
    """Name of a computation → its instructions, and the name of the program's entry."""
    computations: dict[str, Lines] = {}
    entry = name = ""
    for line in program.splitlines():
        if head := _COMPUTATION.match(line):
            name = head[2]
            entry = name if head[1] else entry
        elif match := _INSTRUCTION.match(line):
            computations.setdefault(name, []).append(match.groups())
    return computations, entry


def _list_kernels(computations: dict[str, Lines], computation: str, runs: int) -> Iterator[Kernel]:
    lines = computations.get(computation, [])
    sizes = _count_bytes(lines)
    for name, _, operation, rest in lines:
        if operation in _CALLS:
            trips = _TRIPS.search(rest)
            for called in _CALLED.findall(rest):
                yield from _list_kernels(
                    computations, called, runs * (int(trips[1]) if trips else 1)
                )
        elif operation not in _NO_KERNEL:
            source = re.search(r'op_name="([^"]*)"', rest)
            yield Kernel(name, source[1] if source else "", sizes[name], runs)


def _count_bytes(lines: Lines) -> dict[str, int]:
    """Name of an instruction → bytes of its output and of its different inputs."""
    outputs = {name: _shape_bytes(shape) for name, shape, _, _ in lines}
    inputs = {
        name: set(re.findall(r"%([\w.\-]+)", rest.split(")", 1)[0])) for name, _, _, rest in lines
    }
    return {
        name: outputs[name] + sum(outputs.get(each, 0) for each in inputs[name]) for name in outputs
    }


def _shape_bytes(text: str) -> int:
    """The bytes of all arrays of a type such as "(bf16[8,56]{1,0}, f32[])"."""
    total = 0
    for kind, sizes in _SHAPE.findall(text):
        bits = 8 if kind == "pred" else int(re.search(r"\d+", kind).group())
        total += math.prod(int(size) for size in sizes.split(",") if size) * bits // 8
    return total
