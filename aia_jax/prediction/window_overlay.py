"""Writes a long video with what its windows show: a band of the classes over time, and bars."""

import bisect
import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from aia_jax.prediction.drawing import Drawing
from aia_jax.prediction.fonts import find_fonts
from aia_jax.prediction.overlay import BACKGROUND, NOT_PLAYED, draw_panel, printable, write_frames
from aia_jax.prediction.windows import WindowPrediction
from aia_jax.video.frame_size import FrameFormat
from aia_jax.video.timed_frames import Clock, timed_frames

# Colours of classes, the one that is seen longest first: Okabe and Ito's, which people with any
# colour vision tell apart. Further classes share the last one.
_COLOURS = (
    *("#ffb03b", "#56b4e9", "#22b58a", "#f0e442", "#d97bb0", "#e8703a", "#6f8ff0"),
    "#a6afb8",
)
_NAME = "#16191d"  # ink of the names on these colours
_NAME_TO_COME = "#e4e7ea"  # and where it is not played yet
_BAND = 34  # pixels: height of the band between picture and panel
_GAP = 4  # pixels above and below it
_NAME_SIZE = 14  # pixels
_SHORTEST_NAME = 40  # pixels of the band without which a name would not fit
_TO_COME = 0.4  # share of its colour that the part of the band has that is not played yet
_CURSOR = (255, 255, 255)
_CURSOR_WIDTH = 3  # pixels


def write_window_overlay(
    path: Path,
    source: Path,
    windows: Sequence[WindowPrediction],
    class_names: Sequence[str],
    frame_format: FrameFormat,
    clock: Clock,
) -> str:
    """Writes the video with the classes of its windows; an older file is replaced at the end.

    At every moment that window counts whose middle is nearest.

    Args:
        path: .mp4 or .gif.
        source: the video, which is read once more.
        windows: of the video, at least one, by their starts.
        class_names: by label.
        frame_format: its pictures of a folder are shown.
        clock: of the source.

    Returns:
        The characters of the names that no font of this machine has; boxes stand for them.

    Raises:
        UnreadableVideo: a frame cannot be read.
    """
    scene = _Scene(source.name, windows, class_names, clock)
    frames = scene.follow(timed_frames(source, frame_format, clock))
    write_frames(path, frames, scene, clock.mean_fps or clock.fps)
    return find_fonts(scene.letters)[1]


def segments(windows: Sequence[WindowPrediction], end: float) -> list[tuple[float, float, int]]:
    """Which window counts when, as (start, end, number of the window), in order.

    It is the window whose middle is nearest. Moments that no window saw are in no segment.

    Args:
        windows: by their starts.
        end: of the video in seconds.
    """
    middles = [(window.start + window.end) / 2 for window in windows]
    borders = [0.0, *((a + b) / 2 for a, b in itertools.pairwise(middles)), end]
    return [
        (max(window.start, borders[number]), min(window.end, borders[number + 1]), number)
        for number, window in enumerate(windows)
    ]


class _Scene:
    """What lies below the frames; call it with a width and a frame's number.

    Attributes:
        letters: all that is written.
    """

    def __init__(
        self,
        title: str,
        windows: Sequence[WindowPrediction],
        class_names: Sequence[str],
        clock: Clock,
    ):
        self._title, self._windows, self._names = title, windows, class_names
        gaps = any(b.start > a.end + 1e-6 for a, b in itertools.pairwise(windows))
        # The last window ends with the video, which a file's packets may not do.
        self._end = float(clock.end) if gaps else windows[-1].end
        self._segments = segments(windows, self._end)
        self._rows = max(len(window.classes) for window in windows)
        seconds = Counter()
        for start, stop, number in self._segments:
            seconds[windows[number].classes[0][0]] += stop - start
        self._colours = dict(zip(dict(seconds.most_common()), _COLOURS, strict=False))
        labels = {label for window in windows for label, _ in window.classes}
        self.letters = printable(title + "".join(class_names[label] for label in sorted(labels)))
        self._time = 0.0
        self._band: np.ndarray | None = None
        self._to_come: np.ndarray | None = None
        self._panel: np.ndarray | None = None
        self._shown: int | None = -1  # the window of the panel

    def follow(self, frames: Iterator) -> Iterator[np.ndarray]:
        """Yields the pictures of `TimedFrame`s, and keeps the time of the last one."""
        for frame in frames:
            self._time = frame.time
            yield frame.show()

    def __call__(self, width: int, number: int) -> np.ndarray:
        """The band and the bars of now: uint8 [height, width, 3]."""
        if self._band is None:
            self._band = self._draw_band(width, 1.0, _NAME)
            self._to_come = self._draw_band(width, _TO_COME, _NAME_TO_COME)
        now = self._current()
        if self._panel is None or now != self._shown:
            self._panel, self._shown = self._draw_panel(width, now), now
        at = round(self._time / self._end * width)
        band = np.concatenate([self._band[:, :at], self._to_come[:, at:]], axis=1)
        left = min(max(0, at - 1), width - _CURSOR_WIDTH)
        band[:, left : left + _CURSOR_WIDTH] = _CURSOR
        return np.concatenate([band, self._panel])

    def _current(self) -> int | None:
        """The window that counts now; None between windows."""
        at = max(0, bisect.bisect_right(self._segments, (self._time, math.inf)) - 1)
        start, stop, number = self._segments[at]
        return number if start <= self._time < stop else None

    def _colour(self, label: int) -> str:
        return self._colours.get(label, _COLOURS[-1])

    def _draw_panel(self, width: int, number: int | None) -> np.ndarray:
        end = _clock_text(self._end)
        if number is None:
            rows = [("", 0.0)] * self._rows
            return draw_panel(width, self._title, f"between windows, of {end}", rows)
        window = self._windows[number]
        return draw_panel(
            width,
            self._title,
            f"{_clock_text(window.start)} to {_clock_text(window.end)} of {end}",
            [(self._names[label], probability) for label, probability in window.classes],
            [self._colour(label) for label, _ in window.classes],
        )

    def _draw_band(self, width: int, share: float, ink: str) -> np.ndarray:
        """All of the band: uint8 [height, width, 3].

        Neighbours of one class are one piece with the class's name, where it is long enough.

        Args:
            width: pixels.
            share: of a class's colour; the rest is the background's.
            ink: of the names.
        """
        background = "#{:02x}{:02x}{:02x}".format(*NOT_PLAYED)
        drawing = Drawing(_BAND + 2 * _GAP, width, BACKGROUND, self.letters)
        drawing.rectangle(0, _GAP, width, _BAND, background)
        for start, stop, label in self._pieces():
            left, right = (second / self._end * width for second in (start, stop))
            drawing.rectangle(left, _GAP, right - left, _BAND, _mix(self._colour(label), share))
            if right - left >= _SHORTEST_NAME:
                baseline = _GAP + (_BAND + _NAME_SIZE) / 2 - 2
                name, room = printable(self._names[label]), right - left - 12
                drawing.text(left + 6, baseline, name, _NAME_SIZE, room, color=ink)
        return drawing.pixels()

    def _pieces(self) -> list[tuple[float, float, int]]:
        """(start, end, label) of each stretch of time in which one class is the most likely."""
        pieces: list[tuple[float, float, int]] = []
        for start, stop, number in self._segments:
            label = self._windows[number].classes[0][0]
            if pieces and pieces[-1][1:] == (start, label):
                start = pieces.pop()[0]
            pieces.append((start, stop, label))
        return pieces


def _mix(colour: str, share: float) -> str:
    """A colour of which the background has the rest, as "#rrggbb"."""
    parts = zip(bytes.fromhex(colour[1:]), BACKGROUND, strict=True)
    return "#" + "".join(f"{round(a * share + b * (1 - share)):02x}" for a, b in parts)


def _clock_text(seconds: float) -> str:
    """12.5 seconds as "0:12.5", hours as "1:02:03.0"."""
    tenths = round(seconds * 10)
    minutes, tenths = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    text = f"{tenths // 10:02d}.{tenths % 10}"
    return f"{hours}:{minutes:02d}:{text}" if hours else f"{minutes}:{text}"
