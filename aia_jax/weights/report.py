"""What loading weights did, as data and as a table to print."""

import dataclasses
import math
import re
from collections.abc import Mapping

Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Loaded:
    """A variable that got a value, and the key that the value came from."""

    variable: str
    key: str
    shape: Shape


@dataclasses.dataclass(frozen=True)
class Dropped:
    """A key of the source that was not used, with its shape there, and why."""

    key: str
    shape: Shape
    why: str


@dataclasses.dataclass(frozen=True)
class Report:
    """Every variable of the net is loaded or fresh, every key of the source loaded or dropped;
    `str` is a table of families.

    Attributes:
        fresh: variables that keep their initial values → shape.
        classes: how many rows of the head were found by their class's name; "" where names are not
            known.
    """

    loaded: tuple[Loaded, ...]
    fresh: Mapping[str, Shape]
    dropped: tuple[Dropped, ...]
    classes: str = ""

    def __str__(self) -> str:
        entries = [("loaded", _family(entry.variable), entry.shape, "") for entry in self.loaded]
        entries += [
            ("fresh", _family(variable), shape, "") for variable, shape in self.fresh.items()
        ]
        entries += [
            ("dropped", _family(entry.key), entry.shape, entry.why) for entry in self.dropped
        ]
        families: dict[tuple[str, str, str], list[Shape]] = {}
        for what, family, shape, why in entries:
            families.setdefault((what, family, why), []).append(shape)
        rows = [("", "what", "arrays", "numbers", "shapes")]
        for (what, family, why), shapes in families.items():
            numbers = sum(math.prod(shape) for shape in shapes)
            rows.append(
                (
                    what,
                    family,
                    str(len(shapes)),
                    f"{numbers:,}",
                    _shapes(shapes) + (f"; {why}" if why else ""),
                )
            )
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        lines = [
            f"{what:<{widths[0]}}  {family:<{widths[1]}}  {arrays:>{widths[2]}}  "
            f"{numbers:>{widths[3]}}  {last}".rstrip()
            for what, family, arrays, numbers, last in rows
        ]
        if self.classes:
            lines.append(self.classes)
        return "\n".join(lines)

    def as_json(self) -> dict:
        """All entries one by one, as plain lists and dicts."""
        return {
            "loaded": [dataclasses.asdict(entry) for entry in self.loaded],
            "fresh": [
                {"variable": variable, "shape": shape} for variable, shape in self.fresh.items()
            ],
            "dropped": [dataclasses.asdict(entry) for entry in self.dropped],
        }


def _family(name: str) -> str:
    """The part of a net that a variable or key belongs to, without the numbers of its stage and
    block.
    """
    if "/" in name:
        parts = re.sub(
            r"^(params|batch_stats)/|\d+(?=_block)|(?<=_block)\d+",
            lambda m: "" if "/" in m[0] else "*",
            name,
        ).split("/")
        return "/".join(parts[:3] if "attention" in parts[:2] else parts[:1])
    parts = [
        "*" if part.isdigit() else re.sub(r"^layer\d+$", "layer*", part) for part in name.split(".")
    ]
    return ".".join(parts[:-1]) or name


def _shapes(shapes: list[Shape]) -> str:
    different = list(dict.fromkeys(shapes))
    return (
        ", ".join(map(shape_text, different))
        if len(different) <= 3
        else f"{len(different)} different"
    )


def shape_text(shape: Shape) -> str:
    """[7, 7, 3, 64] for (7, 7, 3, 64)."""
    return str(list(shape))
