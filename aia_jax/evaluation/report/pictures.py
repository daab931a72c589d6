"""Pictures of a report: calibration curves as SVG, a confusion matrix as a PNG."""

import base64
from collections.abc import Sequence
from html import escape

import cv2
import numpy as np
from markupsafe import Markup

from aia_jax.evaluation.report.models import Model

_SIDE = 300  # units of the calibration's drawing, which is stretched to the page
_LEFT, _TOP, _BELOW = 44, 8, 42
_BLUE = (216, 136, 52)  # BGR; seen on white and on black
_FAINTEST = 0.12  # opacity of a cell with a single video of a large class


def calibration_chart(models: Sequence[Model]) -> Markup:
    """An SVG: how often each model is right where it is so sure; pointing at a dot says it."""
    right, bottom = _LEFT + _SIDE, _TOP + _SIDE
    parts = [
        f'<line x1="{_LEFT}" y1="{bottom}" x2="{right}" y2="{_TOP}" class="diagonal"/>',
    ]
    for tick in range(0, 101, 20):
        x, y = _LEFT + _SIDE * tick / 100, bottom - _SIDE * tick / 100
        parts += [
            f'<line x1="{_LEFT}" x2="{right}" y1="{y:g}" y2="{y:g}"/>',
            f'<text x="{_LEFT - 6}" y="{y + 4:g}" text-anchor="end">{tick}%</text>',
            f'<text x="{x:g}" y="{bottom + 17}" text-anchor="middle">{tick}%</text>',
        ]
    parts.append(
        f'<text x="{_LEFT + _SIDE / 2}" y="{bottom + 36}" text-anchor="middle">confidence</text>'
    )
    for model in models:
        bins = model.calibration
        there = np.flatnonzero(bins.videos)
        points = [
            (_LEFT + _SIDE * bins.confidence[k], bottom - _SIDE * bins.accuracy[k]) for k in there
        ]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        dots = "".join(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5"><title>{escape(model.letter)}: '
            f"{bins.accuracy[k]:.1%} right where it is {bins.confidence[k]:.1%} sure, "
            f"{bins.videos[k]:,} videos</title></circle>"
            for (x, y), k in zip(points, there.tolist(), strict=True)
        )
        parts.append(f'<g class="curve m{model.number % 8}"><polyline points="{path}"/>{dots}</g>')
    label = "Fraction of right predictions by confidence, a curve for each model"
    return Markup(
        f'<svg class="calibration" viewBox="0 0 {right + 20} {bottom + _BELOW}" role="img" '
        f'aria-label="{label}">{"".join(parts)}</svg>'
    )


def confusion_picture(matrix: np.ndarray, alt: str) -> Markup:
    """An `<img>` with a pixel for each pair of classes: the more of the row's videos, the denser.

    It is transparent where there are none, so it fits light and dark pages.

    Args:
        matrix: int64 [K, K], videos of the row's class that were taken for the column's.
        alt: what the picture shows.
    """
    pixels = np.zeros((*matrix.shape, 4), np.uint8)
    pixels[..., :3] = _BLUE
    share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    opacity = np.where(matrix > 0, _FAINTEST + (1 - _FAINTEST) * np.sqrt(share), 0)
    pixels[..., 3] = np.rint(255 * opacity)
    data = base64.b64encode(cv2.imencode(".png", pixels)[1].tobytes()).decode()
    return Markup(
        '<img class="matrix" alt="{}" width="{}" height="{}" src="data:image/png;base64,{}">'
    ).format(alt, len(matrix), len(matrix), data)


def confusion_cells(matrix: np.ndarray) -> list[list[int]]:
    """The cells with videos for the page's script: a list by row of column, videos, column, …"""
    return [
        [value for column in np.flatnonzero(row) for value in (int(column), int(row[column]))]
        for row in matrix
    ]
