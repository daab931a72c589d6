"""Draws one picture that compares trained models: test clips, learning curves, accuracies."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure

from aia_jax.demo.panels import FAINT, INK, Level, ModelResult, draw_panels
from aia_jax.files import atomic_file

_STYLE = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the picture is the same everywhere
    "font.size": 12,
    "text.color": INK,
    "axes.labelcolor": FAINT,
    "axes.edgecolor": "#b9bec4",
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelsize": 11,
    "ytick.labelsize": 11,
}
_DPI = 100
_WIDTH = 16.0  # inches
# Heights in inches.
_HEAD = 1.0  # title and the first line of the summary
_STRIP = 0.72
_GROUP_GAP = 0.24  # below a group of strips
_PANELS = 4.3
_LINE = 0.21  # of the small print
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
        draw_panels(sections[-2], models, accuracy_levels, loss_levels)
        for row, line in enumerate(small_lines):
            sections[-1].text(
                0.025,
                1 - (row + 0.5) * _LINE / foot,
                line,
                fontsize=9.5,
                color=FAINT,
                va="center",
                family="DejaVu Sans Mono",
            )
        with atomic_file(path) as file:
            canvas.print_png(file)


def _draw_head(section: SubFigure, height: float, title: str, summary: Sequence[str]) -> None:
    section.text(0.025, 1 - 0.32 / height, title, fontsize=21, weight="bold", va="center")
    for row, line in enumerate(summary):
        section.text(
            0.025, 1 - (0.7 + 0.24 * row) / height, line, fontsize=13, color=FAINT, va="center"
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
