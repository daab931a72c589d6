"""Prints what windows show: a table, JSON lines or CSV."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from aia_jax.prediction.overlay import printable
from aia_jax.prediction.windows import WindowPrediction

CSV_HEAD = ("video", "start", "end", "rank", "class", "label", "probability")


def window_fields(window: WindowPrediction, class_names: Sequence[str]) -> dict[str, Any]:
    """What JSON says of a window: "start" and "end" in seconds, "classes" and "seen"."""
    return {
        "start": round(window.start, 3),
        "end": round(window.end, 3),
        "classes": [
            {"name": class_names[label], "label": label, "probability": probability}
            for label, probability in window.classes
        ],
        "seen": list(window.seen),
    }


def csv_lines(source: Path, window: WindowPrediction, class_names: Sequence[str]) -> str:
    """A line of CSV for each class of a window; columns are `CSV_HEAD`."""
    times = round(window.start, 3), round(window.end, 3)
    return to_csv(
        (printable(str(source)), *times, rank, class_names[label], label, f"{probability:.6g}")
        for rank, (label, probability) in enumerate(window.classes, 1)
    )


def to_csv(rows: Any) -> str:
    """Rows as CSV, without the last line's end."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue().rstrip("\n")


def window_table(
    found: Sequence[tuple[Path, Sequence[WindowPrediction]]], class_names: Sequence[str]
) -> Table:
    """The windows of videos as a table, a line for each class; "—" for a window without any."""
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    table.add_column("video", overflow="fold")
    for name in ("start", "end", "probability"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("class", overflow="fold")
    for source, windows in found:
        for number, window in enumerate(windows):
            cells = [(f"{share:.1%}", class_names[label]) for label, share in window.classes]
            for rank, (probability, class_name) in enumerate(cells or [("—", "—")]):
                times = ("", "") if rank else (f"{window.start:.2f}", f"{window.end:.2f}")
                name = "" if number or rank else printable(str(source))
                table.add_row(name, *times, probability, class_name)
    return table
