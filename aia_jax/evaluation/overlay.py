"""A video with what a network says of it: the frames, which of them it saw, and its classes with
bars.
"""

import io
import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from aia_jax.errors import UserError
from aia_jax.evaluation.predict import Prediction
from aia_jax.shards.tfrecord import atomic_file
from aia_jax.video.decode import pictures

_SUFFIXES = (".mp4", ".gif")
_LARGEST, _SMALLEST = (
    (720, 1280),
    (360, 480),
)  # (height, width) that frames are shrunk or enlarged into
_PANEL_WIDTH = 640  # pixels, at least
_FOLDER_FPS = 12  # frames a second of a folder of pictures, which does not say
_GIF_FPS = 15  # more makes large files, and players slow down above it
_MARGIN, _HEAD, _ROW, _FOOT = (
    20,
    46,
    46,
    8,
)  # pixels of the panel: at its sides, above the first class, of a class, below the last
_TRACK = 10  # pixels: height of the strip between picture and panel that shows the time
_BACKGROUND, _TRACK_COLOUR, _PLAYED, _SEEN = (
    (22, 25, 29),
    (49, 54, 61),
    (96, 104, 114),
    (255, 176, 59),
)
_INK, _FAINT, _BAR, _OTHER_BAR, _GROOVE = "#f2f4f6", "#9aa3ad", "#ffb03b", "#7f8a96", "#31363d"
_DPI = 100


def check_overlay(path: Path, sources: Sequence[Path]) -> Path:
    """Refuses, before anything is computed, what could not be written in the end.

    Raises:
        UserError: another kind of file, a folder that does not exist, the video itself, or more
            than one video.
    """
    if path.suffix.lower() not in _SUFFIXES:
        raise UserError(f"--overlay {path}: the name must end with {' or '.join(_SUFFIXES)}")
    if not path.parent.is_dir():
        raise UserError(f"--overlay {path}: there is no folder {path.parent}")
    if len(sources) != 1:
        raise UserError(f"--overlay takes one video, found {len(sources)}")
    if path.exists() and sources[0].exists() and path.samefile(sources[0]):
        raise UserError(f"--overlay {path} would overwrite the video itself; give another name")
    return path


def write_overlay(path: Path, prediction: Prediction, classes: Sequence[tuple[str, float]]) -> None:
    """Writes the video with its classes; an older file is replaced when the new one is whole.

    Args:
        path: .mp4 (H.264 where FFmpeg has it, else MPEG-4) or .gif.
        prediction: of the video, which is read once more.
        classes: names and probabilities, the likeliest first.

    Raises:
        UnreadableVideo: a frame cannot be read.
    """
    fps = Fraction(prediction.fps or _FOLDER_FPS).limit_denominator(1001)
    gif = path.suffix.lower() == ".gif"
    step = math.ceil(fps / _GIF_FPS) if gif else 1  # a GIF shows every step-th frame
    with atomic_file(path) as file, av.open(file, "w", format="gif" if gif else "mp4") as container:
        write = _write_gif if gif else _write_mp4
        write(container, _frames(prediction, classes, step), fps / step)


def draw_panel(
    width: int, title: str, note: str, classes: Sequence[tuple[str, float]]
) -> np.ndarray:
    """The classes with their bars: uint8 [height, width, 3].

    Args:
        width: pixels.
        title: at the top left, shortened if it must be.
        note: at the top right.
        classes: names and probabilities; long names are shortened.
    """
    height = _HEAD + _ROW * len(classes) + _FOOT
    with mpl.rc_context(
        {"font.family": "DejaVu Sans"}
    ):  # comes with matplotlib: the same letters everywhere
        figure = Figure(
            figsize=(width / _DPI, height / _DPI), dpi=_DPI, facecolor=np.array(_BACKGROUND) / 255
        )
        canvas = FigureCanvasAgg(
            figure
        )  # no pyplot: its global state is not for libraries, and it would look for a display
        axes = figure.add_axes(
            (0, 0, 1, 1), xlim=(0, width), ylim=(height, 0)
        )  # a unit is a pixel, from the top left
        axes.set_axis_off()
        points = 72 / _DPI  # of a pixel

        def text(
            x: int, y: int, words: str, size: int, most: int | float, **style: str
        ) -> int | float:
            """Writes words of `size` pixels, shortened to `most` pixels; returns their width."""
            drawn = axes.text(
                x, y, words, fontsize=size * points, va="baseline", parse_math=False, **style
            )
            while len(words) > 1 and drawn.get_window_extent(canvas.get_renderer()).width > most:
                words = words[:-1].rstrip()
                drawn.set_text(words + "…")
            return drawn.get_window_extent(canvas.get_renderer()).width

        inner = width - 2 * _MARGIN
        noted = text(width - _MARGIN, 29, note, 13, inner, color=_FAINT, ha="right")
        text(_MARGIN, 29, title, 14, inner - noted - 24, color=_FAINT, weight="bold")
        for rank, (name, probability) in enumerate(classes):
            top = _HEAD + rank * _ROW
            style = {"color": _INK, "weight": "bold"} if rank == 0 else {"color": _FAINT}
            share = text(
                width - _MARGIN, top + 19, f"{probability:.1%}", 17, inner, ha="right", **style
            )
            text(_MARGIN, top + 19, name, 17, inner - share - 20, **style)
            for length, colour in (
                (1.0, _GROOVE),
                (probability, _BAR if rank == 0 else _OTHER_BAR),
            ):
                axes.add_patch(
                    Rectangle((_MARGIN, top + 27), inner * length, 7, color=colour, linewidth=0)
                )
        buffer = io.BytesIO()
        canvas.print_rgba(buffer)
    return np.frombuffer(buffer.getvalue(), np.uint8).reshape(height, width, 4)[..., :3]


def _frames(
    prediction: Prediction, classes: Sequence[tuple[str, float]], step: int
) -> Iterator[np.ndarray]:
    """The finished pictures, all of one even size."""
    canvas, shape, panel_top = None, (0, 0), 0
    for number, picture in enumerate(pictures(prediction.source)):
        if number % step:
            continue
        if canvas is None:
            shape = _fit(*picture.shape[:2])
            width = max(shape[1], _PANEL_WIDTH)
            seen = f"{len(prediction.seen)} of {prediction.count} frames seen"
            panel = draw_panel(width, prediction.source.name, seen, classes)
            panel_top = shape[0] + _TRACK
            height = panel_top + len(panel)
            canvas = np.full((height + height % 2, width, 3), _BACKGROUND, np.uint8)
            canvas[panel_top:height] = panel
        left = (canvas.shape[1] - shape[1]) // 2
        shrinks = shape[0] < picture.shape[0]
        scaled = cv2.resize(
            np.ascontiguousarray(picture),
            shape[::-1],
            interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC,
        )
        canvas[: shape[0], left : left + shape[1]] = scaled
        canvas[shape[0] : panel_top] = _track(canvas.shape[1], number, prediction)
        yield canvas


def _fit(height: int, width: int) -> tuple[int, int]:
    """The even size at which frames are shown."""
    scale = min(_LARGEST[0] / height, _LARGEST[1] / width, 1.0)
    if height < _SMALLEST[0] and width < _SMALLEST[1]:
        scale = min(_SMALLEST[0] / height, _SMALLEST[1] / width)
    return max(2, round(height * scale / 2) * 2), max(2, round(width * scale / 2) * 2)


def _track(width: int, number: int, prediction: Prediction) -> np.ndarray:
    """The strip of time: how far the video is, and a mark at each frame that the network saw."""
    track = np.full((_TRACK, width, 3), _TRACK_COLOUR, np.uint8)
    track[:, : round(width * (number + 1) / prediction.count)] = _PLAYED
    for frame in prediction.seen:
        place = min(width - 3, round(width * (frame + 0.5) / prediction.count) - 1)
        track[:, place : place + 3] = _SEEN
    return track


def _write_mp4(
    container: av.container.OutputContainer, frames: Iterator[np.ndarray], fps: Fraction
) -> None:
    codec, options = (
        ("libx264", {"crf": "18"}) if "libx264" in av.codecs_available else ("mpeg4", {"q:v": "3"})
    )
    stream = container.add_stream(codec, rate=fps, options=options)
    stream.pix_fmt = "yuv420p"
    for number, picture in enumerate(frames):
        if number == 0:
            stream.height, stream.width = picture.shape[:2]
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
    container.mux(stream.encode())


def _write_gif(
    container: av.container.OutputContainer, frames: Iterator[np.ndarray], fps: Fraction
) -> None:
    """Each frame with the 256 colours that suit it best; only one is held at a time."""
    stream, graph = None, None
    for number, picture in enumerate(frames):
        if graph is None:
            stream = container.add_stream("gif", rate=fps)
            stream.height, stream.width, stream.pix_fmt = *picture.shape[:2], "pal8"
            graph = _palette_graph(stream.width, stream.height, 1 / fps)
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts, frame.time_base = number, 1 / fps
        graph.push(frame)
        container.mux(stream.encode(graph.pull()))
    container.mux(stream.encode())


def _palette_graph(width: int, height: int, time_base: Fraction) -> av.filter.Graph:
    graph = av.filter.Graph()
    source = graph.add_buffer(width=width, height=height, format="rgb24", time_base=time_base)
    split, sink = graph.add("split"), graph.add("buffersink")
    palette, use = (
        graph.add("palettegen", "stats_mode=single"),
        graph.add("paletteuse", "new=1:dither=bayer:bayer_scale=4"),
    )
    source.link_to(split)
    split.link_to(use, 0, 0)
    split.link_to(palette, 1, 0)
    palette.link_to(use, 0, 1)
    use.link_to(sink)
    graph.configure()
    return graph
