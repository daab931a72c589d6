"""The paper's numbers as texts, and in the pages that print them."""

import importlib

import pytest

from configs.networks import NETWORKS
from configs.paper import Reported
from tests.helpers.paths import ROOT

SETS = ("ssv1", "ssv2", "diving48", "egtea", "epic55")


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
    ],
)
def test_a_number_says_where_it_stands(reported, text):
    assert str(reported) == text


def accuracy(reported: Reported) -> str:
    """A cell of the pages' tables: "61.7 / 87.4 (2 clips)"."""
    numbers = [reported.top1, *([] if reported.top5 is None else [reported.top5])]
    clips = f" ({reported.clips} clips)" if (reported.clips or 1) > 1 else ""
    return " / ".join(f"{number:.1f}" for number in numbers) + clips


def rows() -> list[str]:
    """The lines of the pages' tables: a data set and option each, a column a network."""
    lines = []
    for name in SETS:
        paper = importlib.import_module(f"configs.{name}").PAPER
        for option in dict.fromkeys(argument.partition(",")[2] for argument in paper):
            cells = [paper[f"{network},{option}".rstrip(",")] for network in NETWORKS]
            tables = {table for cell in cells for table in cell.table.split(" and ")}
            columns = [*map(accuracy, cells), " and ".join(sorted(tables))]
            config = f"configs/{name}.py:NETWORK{',' * bool(option)}{option}"
            lines.append(f"| `{config}` | {' | '.join(columns)} |")
    return lines


@pytest.mark.parametrize(
    ("page", "printed"), [("docs/reproduce.md", rows()), ("README.md", rows()[:2])]
)
def test_pages_print_the_tables_numbers(page, printed):
    lines = (ROOT / page).read_text().splitlines()
    head = lines.index(f"| config | {' | '.join(f'`{name}`' for name in NETWORKS)} | table |")
    assert lines[head + 2 : head + 2 + len(printed)] == printed
    assert not lines[head + 2 + len(printed)].startswith("|")
