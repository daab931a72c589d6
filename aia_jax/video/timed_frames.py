"""The frames of a video one by one with their times, for work that looks at a long video in parts.

Only the frame at hand is in memory, and it is converted to pixels or to a JPEG only where that is
asked for.
"""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from aia_jax.video.decode import picture_shape, stored_shape
from aia_jax.video.encode import encode_frame, encode_rgb, resize
from aia_jax.video.faults import UnreadableVideo, named_faults
from aia_jax.video.frame_folder import FrameNamesError, detect_frame_names
from aia_jax.video.frame_size import FrameFormat
from aia_jax.video.orientation import frame_orientation
from aia_jax.video.picture import read_picture, read_picture_file
from aia_jax.video.video_file import VideoFile

_EVEN = 0.01  # share by which a mean rate differs where times are rounded


class TimedFrame(NamedTuple):
    """A frame of a video.

    Attributes:
        time: at which it is first shown, in seconds since the first frame.
        store: compresses it as prepare_data.py does.
        show: gives it in the source's size, upright, uint8 [H, W, 3].
    """

    time: float
    store: Callable[[], bytes]
    show: Callable[[], np.ndarray]


@dataclass(frozen=True)
class Clock:
    """How long a video is, and how fast its frames follow one another.

    Attributes:
        end: of the last frame, in seconds since the first one.
        fps: frames a second, as the source says it.
        mean_fps: frames over seconds, where frames do not follow evenly; 0: `fps`.
    """

    end: int | float
    fps: int | float
    mean_fps: float = 0.0


def read_clock(source: Path, frame_names: str = "", folder_fps: float | None = None) -> Clock:
    """Finds the length of a video without decoding a frame.

    A file's index or packets say it. They may count frames that a player hides, so only decoding
    gives the exact end.

    Args:
        source: a video file, or a folder of frames.
        frame_names: the pictures of a folder to take, as in `detect_frame_names`.
        folder_fps: frames a second of a folder, which has no rate of its own.

    Raises:
        UnreadableVideo: there is no frame, the source cannot be opened, or its rate is not known.
    """
    with named_faults():
        if source.is_dir():
            if folder_fps is None:
                raise UnreadableVideo(
                    "how many of its pictures a second shows is not known; say it with --fps"
                )
            return Clock(len(_names(source, frame_names)) / folder_fps, folder_fps)
        with VideoFile(source) as video:
            packets = [
                packet.pts for packet in video.container.demux(video.stream) if packet.size > 0
            ]
            times = [stamp for stamp in packets if stamp is not None]
            fps = video.fps
            tick = float(video.stream.time_base)
            span = (max(times) - min(times)) * tick if len(times) > 1 else 0.0
            if not fps and span:
                fps = (len(times) - 1) / span
            if not fps:
                raise UnreadableVideo("the file does not say how many frames a second has")
            if video.is_numbered or len(times) < len(packets):
                span = (max(1, len(packets)) - 1) / fps
            mean = len(packets) / (span + 1 / fps)
            return Clock(span + 1 / fps, fps, 0.0 if abs(mean / fps - 1) < _EVEN else mean)


def timed_frames(
    source: Path, frame_format: FrameFormat, clock: Clock, threads: int = 1
) -> Iterator[TimedFrame]:
    """Yields every frame of a video in order; no time is before that of the frame before.

    Args:
        source: a video file, or a folder of frames.
        frame_format: how `TimedFrame.store` stores frames.
        clock: from `read_clock`. Its rate gives the times of frames that have none.
        threads: that decode a file; see `decode`.

    Raises:
        UnreadableVideo: at a frame that cannot be read, and at the end of a file that is cut off.
    """
    with named_faults():
        read = _folder_frames if source.is_dir() else _file_frames
        yield from read(source, frame_format, clock, threads)


def _file_frames(
    path: Path, frame_format: FrameFormat, clock: Clock, threads: int
) -> Iterator[TimedFrame]:
    with VideoFile(path, threads) as video:
        shape, first, time = None, None, 0.0
        for number, frame in enumerate(video.frames()):
            orientation = frame_orientation(frame)
            shape = shape or stored_shape(frame, orientation, frame_format.size)
            if video.is_numbered or frame.time is None:
                now = number / clock.fps
            else:
                first = frame.time if first is None else first
                now = frame.time - first
            time = max(time, now)
            yield TimedFrame(
                time,
                functools.partial(encode_frame, frame, shape, orientation, frame_format.quality),
                lambda frame=frame, orientation=orientation: orientation.apply(
                    frame.to_ndarray(format="rgb24")
                ),
            )
        if shape is None:
            raise UnreadableVideo("no frame in this file")
        video.check_end()


def _folder_frames(
    folder: Path, frame_format: FrameFormat, clock: Clock, threads: int
) -> Iterator[TimedFrame]:
    shape = None
    for number, name in enumerate(_names(folder, frame_format.frame_names)):

        @functools.cache
        def show(name: str = name) -> np.ndarray:
            return read_picture(read_picture_file(folder / name), name)

        # The first picture decides on the stored size of all.
        shape = shape or picture_shape(show(), frame_format.size)

        def store(show: Callable[[], np.ndarray] = show, shape: tuple[int, int] = shape) -> bytes:
            return encode_rgb(resize(show(), *shape), frame_format.quality)

        yield TimedFrame(number / clock.fps, store, show)


def _names(folder: Path, chosen: str) -> list[str]:
    try:
        return list(detect_frame_names((path.name for path in folder.iterdir()), chosen).files)
    except FrameNamesError as error:
        raise UnreadableVideo(str(error)) from error
