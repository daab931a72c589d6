"""A picture of lines of text and rectangles, drawn in pixels."""

import io
import warnings
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from aia_jax.prediction.fonts import find_fonts

_DPI = 100


class Drawing:
    """A picture that is being drawn; coordinates are pixels from the top left."""

    def __init__(self, height: int, width: int, background: tuple[int, int, int], letters: str):
        """Makes an empty picture.

        Args:
            height: pixels.
            width: pixels.
            background: RGB.
            letters: all that will be written, for which fonts are looked up.
        """
        self._height = height
        self._fonts = find_fonts(letters)[0]
        figure = Figure(
            figsize=(width / _DPI, height / _DPI), dpi=_DPI, facecolor=np.array(background) / 255
        )
        # Without pyplot, which keeps global state and looks for a display.
        self._canvas = FigureCanvasAgg(figure)
        self._axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
        self._axes.set_axis_off()

    def text(
        self,
        x: int | float,
        y: int | float,
        words: str,
        size: int,
        max_width: int | float,
        **style: Any,
    ) -> int | float:
        """Writes words on the line `y`, `size` pixels high, shortened to `max_width`.

        Returns:
            The width of what was written.
        """
        drawn = self._axes.text(
            x,
            y,
            words,
            fontsize=size * 72 / _DPI,
            fontfamily=self._fonts,
            va="baseline",
            parse_math=False,
            **style,
        )

        def drawn_width() -> int | float:
            return drawn.get_window_extent(self._canvas.get_renderer()).width

        with warnings.catch_warnings():
            _ignore_missing_glyphs()
            while len(words) > 1 and drawn_width() > max_width:
                words = words[:-1].rstrip()
                drawn.set_text(words + "…")
            return drawn_width()

    def rectangle(
        self,
        x: int | float,
        y: int | float,
        width: int | float,
        height: int | float,
        colour: str,
    ) -> None:
        self._axes.add_patch(Rectangle((x, y), width, height, color=colour, linewidth=0))

    def pixels(self) -> np.ndarray:
        """The picture as uint8 [height, width, 3]."""
        buffer = io.BytesIO()
        with warnings.catch_warnings():
            _ignore_missing_glyphs()
            self._canvas.print_rgba(buffer)
        return np.frombuffer(buffer.getvalue(), np.uint8).reshape(self._height, -1, 4)[..., :3]


def _ignore_missing_glyphs() -> None:
    # One note on characters without a font is better than a warning for each of them.
    warnings.filterwarnings("ignore", message="Glyph .* missing from")
