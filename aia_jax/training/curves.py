"""curves.png: a run's loss, accuracies and learning rate over its steps."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator, PercentFormatter

from aia_jax.files import atomic_file
from aia_jax.training.metrics_file import read_rows

CURVES_FILE = "curves.png"
_COLOURS = {"train": "#3b6fb6", "validation": "#d1662b"}
_DASHED = {"mean_class_accuracy": "mean-class", "map": "mAP"}
_POINTS = 300  # a training curve averages more rows in groups, because noise would hide the trend
_DRAWABLE = 1e100
_MARKED = 60  # a curve of more validations has no dots


def draw_curves(metrics: str | Path, picture: str | Path) -> None:
    """Draws metrics.jsonl as a PNG; rows without a finite number leave a gap.

    Mean-class accuracy and mean average precision, where validations have them, are dashed beside
    top-1.

    Args:
        metrics: path of metrics.jsonl; it may hold no rows yet.
        picture: path of the PNG.
    """
    rows = read_rows(metrics)
    # No pyplot: its global state is not for libraries, and it would look for a display.
    figure = Figure(figsize=(12, 3.6), dpi=110)
    # Fixed margins: to find them by a layout takes as long as to draw the rest.
    figure.subplots_adjust(left=0.05, right=0.985, bottom=0.14, top=0.91, wspace=0.16)
    FigureCanvasAgg(figure)
    loss, accuracy, rate = figure.subplots(1, 3)
    for axes, title, name in (
        (loss, "loss (nats)", "loss"),
        (accuracy, "top-1", "top1"),
        (rate, "learning rate", "lr"),
    ):
        for split in ("train", "validation"):
            _draw_curve(axes, rows, split, name)
        _style(axes, title)
    for name, label in _DASHED.items():
        if any(row.get(name) is not None for row in rows):
            _draw_curve(accuracy, rows, "validation", name, label, "--")
            accuracy.legend(frameon=False)
    accuracy.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    accuracy.set_ylim(0, 1)
    rate.set_yscale("log")
    if len(loss.get_legend_handles_labels()[0]) > 1:
        loss.legend(frameon=False)

    with atomic_file(picture) as file:
        figure.savefig(file, format="png")


def _draw_curve(
    axes: Axes,
    rows: Sequence[Mapping[str, Any]],
    split: str,
    name: str,
    label: str = "",
    line: str = "-",
) -> None:
    points = [row for row in rows if row["split"] == split and name in row]
    steps = [row["step"] for row in points]
    values = [math.nan if row[name] is None else float(row[name]) for row in points]
    if split == "train" and name != "lr":
        counts = [row.get("steps", 1) for row in points]
        steps, values = _average_neighbours(steps, values, counts)
    # No picture has room for numbers near float64's largest: their range is infinite.
    values = [value if abs(value) < _DRAWABLE else math.nan for value in values]
    if steps:
        dots = "o" if (split == "validation" and len(steps) <= _MARKED) or len(steps) == 1 else None
        style = "steps-pre" if name == "lr" else "default"  # milestones drop it from step to step
        axes.plot(
            steps,
            values,
            color=_COLOURS[split],
            label=label or split,
            linestyle=line,
            marker=dots,
            markersize=3.5,
            linewidth=1.4,
            drawstyle=style,
        )


def _average_neighbours(
    steps: Sequence[int], values: Sequence[float], counts: Sequence[int]
) -> tuple[list[int], list[float]]:
    """Averages neighbouring rows, each weighted by its steps.

    A point covers as many steps as the longest row, or more so that at most `_POINTS` are left. An
    epoch may end with a row of one step, whose loss is that of a single batch: drawn alone it would
    be a spike.

    Args:
        steps: the last step of each row.
        values: of each row.
        counts: steps that each row averages.

    Returns:
        The last step and the value of each point.
    """
    size = max([math.ceil(sum(counts) / _POINTS), *counts], default=1)
    points: list[tuple[int, float, int]] = []  # last step, sum over the steps, number of steps
    full = True  # whether the last point covers enough
    for step, value, count in zip(steps, values, counts, strict=True):
        _, total, covered = (0, 0.0, 0) if full else points.pop()
        points.append((step, total + value * count, covered + count))
        full = covered + count >= size
    # What is left at the end joins the point before it, unless it is half a point itself.
    if len(points) > 1 and points[-1][2] < size / 2:
        (_, total, covered), (step, more, count) = points[-2:]
        points[-2:] = [(step, total + more, covered + count)]
    return [step for step, _, _ in points], [total / covered for _, total, covered in points]


def _style(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=11, loc="left")
    axes.set_xlabel("step")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_xlim(left=0)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
