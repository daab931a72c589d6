"""Draws film strips: the frames of a clip side by side, a row for each way of looking at them."""

import textwrap
import unicodedata
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from aia_jax.files import atomic_file
from aia_jax.prediction.fonts import find_fonts

_DPI = 100
_FRAME = 150  # pixels, the height of a frame in the strip
_GAP = 4  # pixels between frames and between rows
_LABEL = 190  # pixels to the left of the frames, for the rows' labels
_TITLE = 40  # pixels above the frames
_LABEL_LETTERS = 24  # letters of a label's line
_MIN_WIDTH = 640  # pixels
_COLOURS = "turbo"  # from blue, little, to red, much
_REDDEST = 0.9  # of the colours' range; beyond it the red darkens, which would look like little
_OPACITY = 0.5


class Row(NamedTuple):
    """A row of a film strip.

    Attributes:
        label: at the left, broken into lines.
        pictures: uint8 [H, W, 3] each, all of one size.
    """

    label: str
    pictures: Sequence[np.ndarray]


def middle_frames(
    clip: np.ndarray | list[np.ndarray], segment_frames: int
) -> np.ndarray | list[np.ndarray]:
    """The frames of a clip that a strip shows, the middle one of each segment: T·S → T.

    Args:
        clip: frames, or maps of them, as many.
        segment_frames: consecutive frames of a segment (S). With 1 all frames are shown.
    """
    return clip[segment_frames // 2 :: segment_frames]


def spread_maps(maps: np.ndarray, frames: int) -> np.ndarray:
    """Repeats the maps [t, h, w] of a layer that has fewer frames than the clip: [frames, h, w]."""
    return maps[np.arange(frames) * len(maps) // frames]


def paint(picture: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Lays a map over a picture.

    Args:
        picture: uint8 [H, W, 3].
        heat: float [h, w] from 0 to 1, stretched over the picture.

    Returns:
        uint8 [H, W, 3].
    """
    height, width = picture.shape[:2]
    stretched = cv2.resize(
        np.ascontiguousarray(heat, np.float32), (width, height), interpolation=cv2.INTER_LINEAR
    )
    colours = mpl.colormaps[_COLOURS](_REDDEST * np.clip(stretched, 0, 1))[..., :3] * 255
    mixed = (1 - _OPACITY) * picture + _OPACITY * colours
    return np.rint(mixed).astype(np.uint8)


def draw_film_strip(path: Path, title: str, rows: Sequence[Row]) -> str:
    """Writes a PNG with a line of pictures for each row; an older file is replaced.

    Args:
        path: of the PNG.
        title: above the pictures.
        rows: at least one, each with as many pictures as the others.

    Returns:
        The letters that no font of this machine has; boxes stand for them.
    """
    fonts, missing = find_fonts("".join((title, *(row.label for row in rows))))
    style = {"fontfamily": fonts, "va": "center", "parse_math": False}
    height, width = rows[0].pictures[0].shape[:2]
    frame_width = max(1, round(_FRAME * width / height))
    columns = len(rows[0].pictures)
    total_width = max(_MIN_WIDTH, _LABEL + columns * (frame_width + _GAP) + _GAP)
    total_height = _TITLE + len(rows) * (_FRAME + _GAP) + _GAP
    # Without pyplot, which keeps global state and looks for a display.
    figure = Figure(figsize=(total_width / _DPI, total_height / _DPI), dpi=_DPI, facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, total_width), ylim=(total_height, 0))
    axes.set_axis_off()
    axes.text(12, _TITLE / 2, title, fontsize=11, weight="bold", **style)
    for number, row in enumerate(rows):
        top = _TITLE + number * (_FRAME + _GAP)
        label = _break_lines(row.label)
        axes.text(12, top + _FRAME / 2, label, fontsize=9, **style)
        for column, picture in enumerate(row.pictures):
            left = _LABEL + column * (frame_width + _GAP)
            shrinks = picture.shape[0] > _FRAME
            scaled = cv2.resize(
                np.ascontiguousarray(picture),
                (frame_width, _FRAME),
                interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC,
            )
            axes.imshow(
                scaled,
                extent=(left, left + frame_width, top + _FRAME, top),
                interpolation="nearest",
                aspect="auto",
            )
    axes.set_xlim(0, total_width)  # `imshow` changes the limits
    axes.set_ylim(total_height, 0)
    with atomic_file(path) as file, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the caller says it
        FigureCanvasAgg(figure).print_png(file)
    return missing


def _break_lines(label: str) -> str:
    wide = any(unicodedata.east_asian_width(letter) in "WF" for letter in label)
    return "\n".join(textwrap.wrap(label, _LABEL_LETTERS // 2 if wide else _LABEL_LETTERS))
