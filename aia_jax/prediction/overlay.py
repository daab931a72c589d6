"""Writes a video with its predicted classes: frames, a timeline of seen frames, and bars."""

import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from aia_jax.errors import UserError
from aia_jax.files import atomic_file
from aia_jax.prediction.drawing import Drawing
from aia_jax.prediction.fonts import find_fonts
from aia_jax.prediction.predict import Prediction
from aia_jax.video.decode import pictures

_SUFFIXES = (".mp4", ".gif")
_MAX_SIZE = (720, 1280)  # (height, width) into which larger frames are shrunk
_MIN_SIZE = (360, 480)  # (height, width) to which smaller frames are enlarged
_MIN_PANEL_WIDTH = 640  # pixels
_FOLDER_FPS = 12  # frames a second of a folder of pictures, which has no rate of its own
_GIF_FPS = 15  # more frames a second make large files, and players slow down

# The panel, in pixels.
_MARGIN = 20  # at its sides
_HEAD = 46  # height above the first class
_ROW = 46  # height of a class
_FOOT = 8  # height below the last class

_TIMELINE = 10  # pixels: height of the strip between picture and panel
# RGB of the strip and of what lies behind everything.
BACKGROUND = (22, 25, 29)
NOT_PLAYED = (49, 54, 61)
_PLAYED = (96, 104, 114)
_SEEN = (255, 176, 59)

_INK, _FAINT = "#f2f4f6", "#9aa3ad"  # text
_FIRST_BAR, _OTHER_BAR, _EMPTY_BAR = "#ffb03b", "#7f8a96", "#31363d"


def check_overlay(path: Path, sources: Sequence[Path]) -> Path:
    """Checks, before anything is computed, that an overlay can be written to `path`.

    Returns:
        `path`.

    Raises:
        UserError: another kind of file, a folder that does not exist or cannot be written, the
            video itself, or more than one video.
    """
    if path.suffix.lower() not in _SUFFIXES:
        raise UserError(f"--overlay {path}: the name must end with {' or '.join(_SUFFIXES)}")
    if not path.parent.is_dir():
        raise UserError(f"--overlay {path}: there is no folder {path.parent}")
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        problem = "it is a folder" if path.is_dir() else f"{path.parent} cannot be written"
        raise UserError(f"--overlay {path}: {problem}; give another name")
    if len(sources) != 1:
        raise UserError(f"--overlay takes one video, found {len(sources)}")
    if path.exists() and sources[0].exists() and path.samefile(sources[0]):
        raise UserError(f"--overlay {path} would overwrite the video itself; give another name")
    return path


def printable(text: str) -> str:
    """Writes characters in escapes that are no text: control codes, bytes that are not UTF-8."""
    return "".join(
        letter
        if letter.isprintable()
        else letter.encode("unicode_escape", "backslashreplace").decode()
        for letter in text
    )


def write_overlay(path: Path, prediction: Prediction, classes: Sequence[tuple[str, float]]) -> str:
    """Writes the video with its classes; an older file is replaced when the new one is whole.

    Args:
        path: .mp4 (H.264 where FFmpeg has it, else MPEG-4) or .gif.
        prediction: of the video, which is read once more.
        classes: names and probabilities, the most likely first.

    Returns:
        The characters of the names that no font of this machine has; boxes stand for them.

    Raises:
        UnreadableVideo: a frame cannot be read.
    """
    seen = f"{len(prediction.seen)} of {prediction.count} frames seen"
    panel = None

    def below(width: int, number: int) -> np.ndarray:
        nonlocal panel
        if panel is None:
            panel = draw_panel(width, prediction.source.name, seen, classes)
        return np.concatenate([_draw_timeline(width, number, prediction), panel])

    write_frames(path, pictures(prediction.source), below, prediction.fps)
    return find_fonts(_panel_text(prediction, classes))[1]


def write_frames(
    path: Path,
    frames: Iterable[np.ndarray],
    below: Callable[[int, int], np.ndarray],
    fps: float,
) -> None:
    """Writes a video of frames with a picture below each.

    Args:
        path: .mp4 or .gif.
        frames: uint8 [H, W, 3] each, of any sizes.
        below: gives the picture for a width in pixels and a frame's number, uint8 [height, width,
            3]; all have one height.
        fps: frames a second; 0: not known, as of a folder of pictures.

    Raises:
        UnreadableVideo: a frame cannot be read. `path` stays as it was.
    """
    rate = Fraction(fps or _FOLDER_FPS).limit_denominator(1001)
    gif = path.suffix.lower() == ".gif"
    step = math.ceil(rate / _GIF_FPS) if gif else 1  # every step-th frame is written
    with atomic_file(path) as file, av.open(file, "w", format="gif" if gif else "mp4") as container:
        write = _write_gif if gif else _write_mp4
        write(container, _compose_frames(frames, below, step), rate / step)


def _panel_text(prediction: Prediction, classes: Sequence[tuple[str, float]]) -> str:
    return printable("".join((prediction.source.name, *(name for name, _ in classes))))


def draw_panel(
    width: int,
    title: str,
    note: str,
    classes: Sequence[tuple[str, float]],
    colours: Sequence[str] = (),
) -> np.ndarray:
    """Draws the classes with their bars.

    Args:
        width: pixels.
        title: at the top left, shortened if it must be.
        note: at the top right.
        classes: names and probabilities; long names are shortened. A row without a name is empty.
        colours: of the bars; () for the usual ones.

    Returns:
        uint8 [height, width, 3].
    """
    height = _HEAD + _ROW * len(classes) + _FOOT
    title = printable(title)
    classes = [(printable(name), probability) for name, probability in classes]
    letters = "".join((title, note, *(name for name, _ in classes)))
    drawing = Drawing(height, width, BACKGROUND, letters)
    inner = width - 2 * _MARGIN
    note_width = drawing.text(width - _MARGIN, 29, note, 13, inner, color=_FAINT, ha="right")
    drawing.text(_MARGIN, 29, title, 14, inner - note_width - 24, color=_FAINT, weight="bold")
    for rank, (name, probability) in enumerate(classes):
        top = _HEAD + rank * _ROW
        style = {"color": _INK, "weight": "bold"} if rank == 0 else {"color": _FAINT}
        percent = f"{probability:.1%}" if name else ""
        percent_width = drawing.text(
            width - _MARGIN, top + 19, percent, 17, inner, ha="right", **style
        )
        drawing.text(_MARGIN, top + 19, name, 17, inner - percent_width - 20, **style)
        bar_colour = colours[rank] if colours else _FIRST_BAR if rank == 0 else _OTHER_BAR
        for length, colour in ((1.0, _EMPTY_BAR), (probability, bar_colour)):
            drawing.rectangle(_MARGIN, top + 27, inner * length, 7, colour)
    return drawing.pixels()


def _compose_frames(
    frames: Iterable[np.ndarray], below: Callable[[int, int], np.ndarray], step: int
) -> Iterator[np.ndarray]:
    """Yields frames with what lies below them: uint8 [H, W, 3], all of one size, H and W even.

    They are one array, which the next frame overwrites.
    """
    canvas, shape = None, (0, 0)
    for number, picture in enumerate(frames):
        if number % step:
            continue
        if canvas is None:
            shape = _display_size(*picture.shape[:2])
            width = max(shape[1], _MIN_PANEL_WIDTH)
            height = shape[0] + len(below(width, number))
            canvas = np.full((height + height % 2, width, 3), BACKGROUND, np.uint8)
        left = (canvas.shape[1] - shape[1]) // 2
        shrinks = shape[0] < picture.shape[0]
        scaled = cv2.resize(
            np.ascontiguousarray(picture),
            shape[::-1],
            interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC,
        )
        canvas[: shape[0], left : left + shape[1]] = scaled
        panel = below(canvas.shape[1], number)
        canvas[shape[0] : shape[0] + len(panel)] = panel
        yield canvas


def _display_size(height: int, width: int) -> tuple[int, int]:
    """The (height, width) at which frames of a video are shown; both are even."""
    scale = min(_MAX_SIZE[0] / height, _MAX_SIZE[1] / width, 1.0)
    if height < _MIN_SIZE[0] and width < _MIN_SIZE[1]:
        scale = min(_MIN_SIZE[0] / height, _MIN_SIZE[1] / width)
    return max(2, round(height * scale / 2) * 2), max(2, round(width * scale / 2) * 2)


def _draw_timeline(width: int, number: int, prediction: Prediction) -> np.ndarray:
    """Draws how far the video is at frame `number`, and a mark at each frame that was seen."""
    timeline = np.full((_TIMELINE, width, 3), NOT_PLAYED, np.uint8)
    timeline[:, : round(width * (number + 1) / prediction.count)] = _PLAYED
    for frame in prediction.seen:
        left = min(width - 3, round(width * (frame + 0.5) / prediction.count) - 1)
        timeline[:, left : left + 3] = _SEEN
    return timeline


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
    """Writes each frame with the 256 colours that suit it best; one frame is in memory."""
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
    """The FFmpeg filters that choose a palette for each frame and apply it."""
    graph = av.filter.Graph()
    source = graph.add_buffer(width=width, height=height, format="rgb24", time_base=time_base)
    split, sink = graph.add("split"), graph.add("buffersink")
    palette = graph.add("palettegen", "stats_mode=single")
    use = graph.add("paletteuse", "new=1:dither=bayer:bayer_scale=4")
    source.link_to(split)
    split.link_to(use, 0, 0)
    split.link_to(palette, 1, 0)
    palette.link_to(use, 0, 1)
    use.link_to(sink)
    graph.configure()
    return graph
