"""The paper's numbers as texts, and in the pages that print them."""

import importlib
import re

import pytest

from configs.methods import METHODS
from configs.networks import NETWORKS
from configs.paper import Reported
from tests.helpers.paths import ROOT

SETS = ("ssv1", "ssv2", "diving48", "egtea", "epic55", "kinetics400", "ucf101")
AIA = ("tsn", "tsm", "aia_tsn", "aia_tsm")
AIA_COLUMNS = [f"`{name}`" for name in AIA]


@pytest.mark.parametrize(
    ("reported", "text"),
    [
        (
            Reported(61.7, 87.2, "II", crops=1, clips=1),
            "61.7% top-1, 87.2% top-5 (Table II; 8 frames × 1 crop × 1 clip)",
        ),
        (
            Reported(50.0, 79.1, "I and II", frames=16, crops=3, clips=2),
            "50.0% top-1, 79.1% top-5 (Tables I and II; 16 frames × 3 crops × 2 clips)",
        ),
        (Reported(59.5, None, "IV", split="split 3"), "59.5% top-1 (Table IV; split 3; 8 frames)"),
        (
            Reported(77.28, None, source="A README", crops=3, clips=10),
            "77.28% top-1 (A README; 8 frames × 3 crops × 10 clips)",
        ),
    ],
)
def test_a_number_says_where_it_stands(reported, text):
    assert str(reported) == text


def accuracy(reported: Reported) -> str:
    """A cell of the pages' tables: "61.7 / 87.4 (2 clips)"."""
    top1 = f"{reported.top1:.2f}".removesuffix("0")
    numbers = [top1, *([] if reported.top5 is None else [f"{reported.top5:.1f}"])]
    views = (reported.clips or 1) * (reported.crops or 1)
    notes = [f"{reported.frames} frames"] if reported.frames != 8 else []
    if views > 1:
        notes.append(f"{views} views" if reported.crops != 1 else f"{reported.clips} clips")
    return " / ".join(numbers) + (f" ({', '.join(notes)})" if notes else "")


def papers() -> dict[str, dict[str, Reported]]:
    return {name: dict(importlib.import_module(f"configs.{name}").PAPER) for name in SETS}


def rows() -> list[str]:
    """The lines of the pages' first table: a data set and option each, a column a network."""
    lines = []
    for name, paper in papers().items():
        for option in dict.fromkeys(argument.partition(",")[2] for argument in paper):
            cells = [paper.get(f"{network},{option}".rstrip(",")) for network in AIA]
            if None in cells:
                continue
            tables = {table for cell in cells for table in cell.table.split(" and ")}
            columns = [*map(accuracy, cells), " and ".join(sorted(tables))]
            config = f"configs/{name}.py:NETWORK{',' * bool(option)}{option}"
            lines.append(f"| `{config}` | {' | '.join(columns)} |")
    return lines


def other_rows() -> list[str]:
    """The lines of the second table: a recipe of another network each."""
    return [
        f"| `configs/{name}.py:{argument}` | {'; '.join(map(accuracy, numbers))} | {whose} |"
        for name, paper in papers().items()
        for argument, reported in paper.items()
        if argument.partition(",")[0] not in AIA and not METHODS.keys() & set(argument.split(","))
        for numbers in [(reported, *reported.others)]
        for whose in [reported.source or f"the paper's Table {reported.table}"]
    ]


def method_rows() -> list[str]:
    """The lines of the third table: a recipe with a way to train each."""
    return [
        f"| `configs/{name}.py:{argument}` | {accuracy(reported)} | {reported.source} |"
        for name, paper in papers().items()
        for argument, reported in paper.items()
        if METHODS.keys() & set(argument.split(","))
    ]


@pytest.mark.parametrize(
    ("page", "columns", "printed"),
    [
        ("docs/reproduce.md", [*AIA_COLUMNS, "table"], rows()),
        ("README.md", [*AIA_COLUMNS, "table"], rows()[:2]),
        ("docs/reproduce.md", ["top-1, or top-1 / top-5", "reported by"], other_rows()),
        ("docs/reproduce.md", ["with it", "reported by"], method_rows()),
    ],
)
def test_pages_print_the_tables_numbers(page, columns, printed):
    lines = (ROOT / page).read_text().splitlines()
    head = lines.index(f"| config | {' | '.join(columns)} |")
    assert lines[head + 2 : head + 2 + len(printed)] == printed
    assert not lines[head + 2 + len(printed)].startswith("|")


def test_pages_list_every_network():
    """README.md names each kind and its networks."""
    text = (ROOT / "README.md").read_text()
    listed = {word for line in text.splitlines() for word in re.findall(r"`(\w+)`", line)}
    assert set(NETWORKS) - {name for name in NETWORKS if name.endswith("_tsm")} <= listed
