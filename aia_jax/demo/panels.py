"""Draws learning curves and accuracies of trained models, three panels side by side."""

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure
from matplotlib.ticker import MaxNLocator, PercentFormatter

INK, FAINT = "#22262b", "#6b7178"
_LEVEL = "#a3352e"
# Of the models; a ninth model has the first one's colour again.
_COLOURS = (
    "#7a7f87",
    "#2f6db3",
    "#d9622b",
    "#3f9a6b",
    "#8a5aa8",
    "#b3912f",
    "#c2537f",
    "#4aa3b5",
)
_DASHES = (0, (4, 3))
# Left edge and width of each panel, as fractions of the picture's width. The levels' names stand to
# the right of the first two panels, the models' names to the left of the last.
_PANEL_COLUMNS = ((0.045, 0.225), (0.37, 0.225), (0.752, 0.222))
_LEVEL_LETTERS = 10  # of a line of a level's name
_LEVEL_LINE = 0.055  # its height, as a fraction of a panel's


@dataclass(frozen=True)
class Curve:
    """A quantity over training, one value a step in `steps`; NaN leaves a gap."""

    steps: Sequence[int]
    values: Sequence[float]


@dataclass(frozen=True)
class ModelResult:
    """The result and the learning curves of one trained model.

    Attributes:
        name: shown in every panel.
        top1: fraction of the evaluated videos that it classified correctly.
        evaluated: number of those videos.
        loss: training loss in nats.
        accuracy: top-1 on held-out videos, a fraction.
    """

    name: str
    top1: float
    evaluated: int
    loss: Curve
    accuracy: Curve


@dataclass(frozen=True)
class Level:
    """A value to compare with, drawn as a dashed line under its name."""

    name: str
    value: float


def draw_panels(
    section: SubFigure,
    models: Sequence[ModelResult],
    accuracy_levels: Sequence[Level],
    loss_levels: Sequence[Level],
) -> None:
    loss, accuracy, bars = (
        section.add_axes((left, 0.15, width, 0.72)) for left, width in _PANEL_COLUMNS
    )
    colours = [_COLOURS[number % len(_COLOURS)] for number in range(len(models))]
    for model, colour in zip(models, colours, strict=True):
        loss.plot(
            model.loss.steps,
            model.loss.values,
            color=colour,
            linewidth=2,
            label=textwrap.shorten(model.name, 24, placeholder="…"),
        )
        accuracy.plot(
            model.accuracy.steps,
            model.accuracy.values,
            color=colour,
            linewidth=2,
            marker="o",
            markersize=5,
        )
    _style_axes(loss, "Training loss (nats)")
    loss.set_ylim(bottom=0)
    _style_axes(accuracy, "Top-1 on held-out videos")
    for axes in (loss, accuracy):
        axes.set_xlabel("training step")
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    accuracy.set_ylim(0, 1.03)
    accuracy.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    _draw_levels(loss, loss_levels)
    _draw_levels(accuracy, accuracy_levels)
    loss.legend(frameon=False, fontsize=11.5, loc="best", handlelength=1.4)
    _draw_bars(bars, models, colours, accuracy_levels)


def _draw_levels(axes: Axes, levels: Sequence[Level]) -> None:
    """Draws dashed lines, and their names to the right of the axes, where no curve is.

    Names of levels that lie close together are moved apart.
    """
    low, high = axes.get_ylim()
    below = -math.inf  # where the name below ends, as a fraction of the axes' height
    for level in sorted(levels, key=lambda level: level.value):
        axes.axhline(level.value, color=_LEVEL, linewidth=1.2, linestyle=_DASHES, zorder=1)
        lines = textwrap.wrap(level.name, _LEVEL_LETTERS)
        half = _LEVEL_LINE * len(lines) / 2
        middle = max((level.value - low) / (high - low), below + half)
        below = middle + half
        axes.annotate(
            "\n".join(lines),
            (1, middle),
            (5, 0),
            xycoords="axes fraction",
            textcoords="offset points",
            ha="left",
            va="center",
            fontsize=10.5,
            color=_LEVEL,
            annotation_clip=False,
        )


def _draw_bars(
    axes: Axes, models: Sequence[ModelResult], colours: Sequence[str], levels: Sequence[Level]
) -> None:
    rows = np.arange(len(models))
    values = [model.top1 for model in models]
    axes.barh(rows, values, height=0.62, color=colours, zorder=2)
    for row, value in zip(rows, values, strict=True):
        inside = value > 0.3
        axes.annotate(
            f"{value:.1%}",
            (value, row),
            (-7 if inside else 7, 0),
            textcoords="offset points",
            ha="right" if inside else "left",
            va="center",
            fontsize=13,
            weight="bold",
            color="white" if inside else INK,
            zorder=4,
        )
    counts = sorted({model.evaluated for model in models})
    videos = f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}"
    _style_axes(axes, f"Final top-1 on {videos} held-out videos")
    axes.set_yticks(
        rows,
        ["\n".join(textwrap.wrap(model.name, 15)) for model in models],
        fontsize=12.5,
        color=INK,
    )
    # The first model is on top; above it is room for the levels' names.
    axes.set_ylim(len(models) - 0.5, -0.5 - 0.28 * len(levels))
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.grid(axis="y", visible=False)
    for row, level in enumerate(levels):
        top = -0.5 - 0.28 * (len(levels) - row - 0.5)
        axes.plot(
            [level.value] * 2,
            [len(models) - 0.5, top],
            color=_LEVEL,
            linewidth=1.2,
            linestyle=_DASHES,
            zorder=3,
        )
        right = level.value < 0.6
        axes.annotate(
            level.name,
            (level.value, top),
            (5 if right else -5, 0),
            textcoords="offset points",
            ha="left" if right else "right",
            va="center",
            fontsize=10.5,
            color=_LEVEL,
        )


def _style_axes(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=13.5, loc="left", weight="bold", pad=10)
    axes.grid(color="#e6e8eb", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
