"""Hands a program's results to all.py, which prints those of all programs as one table."""

import argparse
import json
from pathlib import Path


def add_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help="append the results to this file too, one JSON object a line",
    )


def write(file: Path | None, what: str, value: str, against: str, ratio: float) -> None:
    """Appends one result; does nothing without a file.

    Args:
        what: the thing measured.
        value: its number, with a unit.
        against: what it was compared with in the same run.
        ratio: to that, as the program's docstring defines it.
    """
    if file is not None:
        with file.open("a") as out:
            out.write(
                json.dumps({"what": what, "value": value, "against": against, "ratio": ratio})
                + "\n"
            )
