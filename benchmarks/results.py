"""Passes a program's results on to all.py, which prints those of all programs as one table."""

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


def write(file: Path | None, name: str, value: str, against: str, ratio: float) -> None:
    """Appends one result; does nothing without a file.

    Args:
        file: the results' file, one JSON object a line; None for none.
        name: of what was measured.
        value: the measured number with its unit.
        against: the name of what it was compared with in the same run.
        ratio: of the two, as the program's docstring defines it.
    """
    if file is not None:
        line = json.dumps({"what": name, "value": value, "against": against, "ratio": ratio})
        with file.open("a") as out:
            out.write(line + "\n")
