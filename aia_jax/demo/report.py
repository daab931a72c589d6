"""Draws one picture that compares trained models: test clips, learning curves, accuracies."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from aia_jax.files import atomic_file

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
_INK, _FAINT, _LEVEL = "#22262b", "#6b7178", "#a3352e"
_STYLE = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the picture is the same everywhere
    "font.size": 12,
    "text.color": _INK,
    "axes.labelcolor": _FAINT,
    "axes.edgecolor": "#b9bec4",
    "xtick.color": _FAINT,
    "ytick.color": _FAINT,
    "xtick.labelsize": 11,
    "ytick.labelsize": 11,
}
_DASHES = (0, (4, 3))
_DPI = 100
_WIDTH = 16.0  # inches
# Heights in inches.
_HEAD = 1.0  # title and the first line of the summary
_STRIP = 0.72
_GROUP_GAP = 0.24  # below a group of strips
_PANELS = 4.3
_LINE = 0.21  # of the small print
# Left edge and width of each panel, as fractions of the picture's width. The last panel has the
# models' names on its left.
_PANEL_COLUMNS = ((0.045, 0.255), (0.36, 0.255), (0.725, 0.25))
_FRAME_GAP = 0.05  # between the frames of a strip, as a fraction of a frame's width


@dataclass(frozen=True)
class Strip:
    """Frames of one clip, in their order in time.

    Attributes:
        name: shown beside them.
        frames: uint8 [T, H, W, 3], RGB.
    """

    name: str
    frames: np.ndarray


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


def write_report(
    path: Path,
    *,
    title: str,
    summary: str,
    models: Sequence[ModelResult],
    strips: Sequence[Sequence[Strip]] = (),
    strips_title: str = "Held-out clips",
    accuracy_levels: Sequence[Level] = (),
    loss_levels: Sequence[Level] = (),
    small_print: Sequence[str] = (),
) -> None:
    """Draws the report and writes it as a PNG, 1600 pixels wide.

    Args:
        path: of the PNG, in a folder that exists; an older file is replaced when this one is whole.
        title: one line.
        summary: a few sentences below it.
        models: in the order in which they are drawn; at least one.
        strips: groups of clips that belong together. The clips of a group are drawn below one
            another, the groups in two columns.
        strips_title: one line above them.
        accuracy_levels: fractions, in the panels of held-out accuracy.
        loss_levels: nats, in the panel of the training loss.
        small_print: lines at the foot: seed, commands, versions.

    Raises:
        ValueError: without models.
    """
    if not models:
        raise ValueError("a report needs at least one model")
    strip_rows = [
        max(len(group) for group in strips[start : start + 2]) for start in range(0, len(strips), 2)
    ]
    strips_height = sum(rows * _STRIP + _GROUP_GAP for rows in strip_rows)
    strips_height += 0.35 if strip_rows else 0
    summary_lines = textwrap.wrap(summary, 150)
    small_lines = [
        part
        for line in small_print
        for part in textwrap.wrap(line, 190, subsequent_indent="    ", break_on_hyphens=False)
    ]
    head = _HEAD + 0.24 * (len(summary_lines) - 1)
    foot = _LINE * len(small_lines) + 0.3
    heights = [head, *([strips_height] if strip_rows else []), _PANELS, foot]

    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, sum(heights)), dpi=_DPI, facecolor="white")
        # Without pyplot, which keeps global state and looks for a display.
        canvas = FigureCanvasAgg(figure)
        sections = list(figure.subfigures(len(heights), 1, height_ratios=heights, hspace=0))
        _draw_head(sections[0], head, title, summary_lines)
        if strip_rows:
            _draw_strips(sections[1], strips_title, strips, strip_rows, strips_height)
        _draw_panels(sections[-2], models, accuracy_levels, loss_levels)
        for row, line in enumerate(small_lines):
            sections[-1].text(
                0.025,
                1 - (row + 0.5) * _LINE / foot,
                line,
                fontsize=9.5,
                color=_FAINT,
                va="center",
                family="DejaVu Sans Mono",
            )
        with atomic_file(path) as file:
            canvas.print_png(file)


def _draw_head(section: SubFigure, height: float, title: str, summary: Sequence[str]) -> None:
    section.text(0.025, 1 - 0.32 / height, title, fontsize=21, weight="bold", va="center")
    for row, line in enumerate(summary):
        section.text(
            0.025, 1 - (0.7 + 0.24 * row) / height, line, fontsize=13, color=_FAINT, va="center"
        )


def _draw_strips(
    section: SubFigure,
    title: str,
    groups: Sequence[Sequence[Strip]],
    rows: Sequence[int],
    height: float,
) -> None:
    """Draws groups of strips in two columns.

    Positions are computed in inches, so that all frames have one size.

    Args:
        section: to draw in.
        title: above the groups.
        groups: of strips.
        rows: strips in each row of groups.
        height: of the section.
    """
    column = (_WIDTH - 0.8) / 2
    label = 1.85  # left of the frames
    top = 0.35  # above the groups
    section.text(0.025, 1 - 0.1 / height, title, fontsize=13.5, weight="bold", va="center")
    for number, group in enumerate(groups):
        left = 0.4 + number % 2 * column
        above = top + sum(rows[row] * _STRIP + _GROUP_GAP for row in range(number // 2))
        for row, strip in enumerate(group):
            frame_height, frame_width = strip.frames.shape[1:3]
            gap = np.full((frame_height, max(1, round(frame_width * _FRAME_GAP)), 3), 255, np.uint8)
            picture = np.concatenate(
                [piece for frame in strip.frames for piece in (frame, gap)][:-1], axis=1
            )
            width = min(column - label - 0.25, (_STRIP - 0.05) * picture.shape[1] / frame_height)
            bottom = height - above - (row + 1) * _STRIP
            axes = section.add_axes(
                ((left + label) / _WIDTH, bottom / height, width / _WIDTH, (_STRIP - 0.05) / height)
            )
            axes.imshow(
                picture,
                interpolation="nearest" if picture.shape[1] < width * _DPI else "antialiased",
            )
            axes.set_anchor("W")
            axes.set_axis_off()
            name = "\n".join(textwrap.wrap(strip.name, 20))
            section.text(
                (left + label - 0.12) / _WIDTH,
                (bottom + _STRIP / 2) / height,
                name,
                fontsize=11.5,
                ha="right",
                va="center",
            )


def _draw_panels(
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
    # The levels' names stand where curves seldom are: losses fall from the left, accuracies rise.
    for axes, levels, right in ((loss, loss_levels, False), (accuracy, accuracy_levels, True)):
        for level in levels:
            axes.axhline(level.value, color=_LEVEL, linewidth=1.2, linestyle=_DASHES, zorder=1)
            axes.annotate(
                level.name,
                (1 if right else 0, level.value),
                (-3, 3) if right else (5, -4),
                xycoords=axes.get_yaxis_transform(),
                textcoords="offset points",
                ha="right" if right else "left",
                va="bottom" if right else "top",
                fontsize=10.5,
                color=_LEVEL,
            )
    loss.legend(frameon=False, fontsize=11.5, loc="best", handlelength=1.4)
    _draw_bars(bars, models, colours, accuracy_levels)


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
            color="white" if inside else _INK,
            zorder=4,
        )
    counts = sorted({model.evaluated for model in models})
    videos = f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}"
    _style_axes(axes, f"Final top-1 on {videos} held-out videos")
    axes.set_yticks(
        rows,
        ["\n".join(textwrap.wrap(model.name, 15)) for model in models],
        fontsize=12.5,
        color=_INK,
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
