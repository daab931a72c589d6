"""What loading weights did, as data and as a table to print."""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence

Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Loaded:
    """A variable that got a value, and the key that the value came from."""

    variable: str
    key: str
    shape: Shape


@dataclasses.dataclass(frozen=True)
class Dropped:
    """A key of the source that was not used, its shape there, and the reason."""

    key: str
    shape: Shape
    reason: str


@dataclasses.dataclass(frozen=True)
class Report:
    """What happened to every variable and to every key of the source; `str` is a table.

    A variable is loaded or fresh, a key loaded or dropped. A row of the table stands for all arrays
    whose names differ only in the numbers of stage and block.

    Attributes:
        loaded: variables with their keys.
        fresh: variable that keeps its initial value → shape.
        dropped: unused keys.
        classes: a line that says how many classes of the head were found by their names; "" where
            names are not known.
        notes: lines on what may be meant and may be a mistake.
    """

    loaded: tuple[Loaded, ...]
    fresh: Mapping[str, Shape]
    dropped: tuple[Dropped, ...]
    classes: str = ""
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        arrays = [("loaded", _family(entry.variable), "", entry.shape) for entry in self.loaded]
        arrays += [
            ("fresh", _family(variable), "", shape) for variable, shape in self.fresh.items()
        ]
        arrays += [
            ("dropped", _family(entry.key), entry.reason, entry.shape) for entry in self.dropped
        ]
        families: dict[tuple[str, str, str], list[Shape]] = {}
        for outcome, family, reason, shape in arrays:
            families.setdefault((outcome, family, reason), []).append(shape)
        rows = [("", "what", "arrays", "numbers", "shapes")]
        for (outcome, family, reason), shapes in families.items():
            numbers = sum(math.prod(shape) for shape in shapes)
            text = _shapes_text(shapes) + (f"; {reason}" if reason else "")
            rows.append((outcome, family, str(len(shapes)), f"{numbers:,}", text))
        lines = _align(rows)
        if self.classes:
            lines.append(self.classes)
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join(lines)

    def as_json(self) -> dict:
        """All entries one by one, as plain lists and dicts."""
        return {
            "loaded": [dataclasses.asdict(entry) for entry in self.loaded],
            "fresh": [
                {"variable": variable, "shape": shape} for variable, shape in self.fresh.items()
            ],
            "dropped": [
                {"key": entry.key, "shape": entry.shape, "why": entry.reason}
                for entry in self.dropped
            ],
        }


def _align(rows: Sequence[tuple[str, str, str, str, str]]) -> list[str]:
    """The rows as lines whose columns stand below one another."""
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return [
        f"{outcome:<{widths[0]}}  {family:<{widths[1]}}  {arrays:>{widths[2]}}  "
        f"{numbers:>{widths[3]}}  {shapes}".rstrip()
        for outcome, family, arrays, numbers, shapes in rows
    ]


def _family(name: str) -> str:
    """The part of a network that a variable or a key belongs to, with * for numbers.

    `params/stage1_block0/conv1/kernel` is of `stage*_block*`, `layer1.0.bn1.weight` of
    `layer*.*.bn1`. Attention modules of a block are told apart.
    """
    if "/" in name:
        first, *rest = re.sub(r"^(params|batch_stats)/", "", name).split("/")
        first = re.sub(r"\d+", "*", first)
        return "/".join([first, *rest[:2]] if rest[:1] == ["attention"] else [first])
    numbers_of_blocks = r"\d+(?=\.\d+\.)|(?<=\.)\d+(?=\.)"
    return re.sub(numbers_of_blocks, "*", name).rpartition(".")[0] or name


def _shapes_text(shapes: Sequence[Shape]) -> str:
    different = list(dict.fromkeys(shapes))
    if len(different) > 3:
        return f"{len(different)} different"
    return ", ".join(map(shape_text, different))


def shape_text(shape: Sequence[int]) -> str:
    """[7, 7, 3, 64] for (7, 7, 3, 64)."""
    return str(list(shape))
