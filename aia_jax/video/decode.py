"""Decodes a video file or a folder of frames to JPEG frames of the stored size.

All frames come in their order, and only one frame at a time is held as pixels. A source that cannot
be read to its end raises an error: no frame is invented, repeated or dropped silently.
"""

import contextlib
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from aia_jax.video.encode import encode_frame, encode_rgb, resize
from aia_jax.video.faults import UnreadableVideo, check_stored_shape, named_faults
from aia_jax.video.frame_array import FrameArray
from aia_jax.video.frame_folder import (
    FrameNames,
    FrameNamesError,
    detect_frame_names,
    format_gaps,
)
from aia_jax.video.frame_size import FrameSize
from aia_jax.video.frame_spool import FrameSpool
from aia_jax.video.orientation import Orientation, frame_orientation
from aia_jax.video.picture import read_picture, read_picture_file
from aia_jax.video.video_file import VideoFile

Source = Path | FrameArray  # a video file, a folder of frames, or frames in memory


@dataclass(frozen=True)
class DecodedVideo:
    """The frames of one video as they are stored.

    Attributes:
        frames: JPEGs (4:2:0); those that the caller wanted, by default all.
        count: how many frames the source has.
        fps: frames a second; 0 where unknown (folders of frames).
        height: of the stored frames, in pixels.
        width: of the stored frames, in pixels.
        form: the codec's name, or for pictures the pattern of their names and the first number.
        gaps: the frame numbers that are missing in a folder, as "3 to 5, 9"; empty if none.
        end_checked: whether the source says where it ends; if not, a cut may not show.
    """

    frames: list[bytes] | FrameSpool
    count: int
    fps: float
    height: int
    width: int
    form: str
    gaps: str = ""
    end_checked: bool = True


def decode(
    source: Source,
    size: FrameSize,
    quality: int,
    wanted: Collection[int] | None = None,
    threads: int = 1,
    sink: list[bytes] | FrameSpool | None = None,
    frame_names: str = "",
) -> DecodedVideo:
    """Reads a video file, or a folder with one picture a frame, and resizes every frame.

    Frames in memory are stored as those of a folder.

    Args:
        source: the file, folder or frames.
        size: of the stored frames. The first frame decides on the stored size of all, also where
            the frames of a video change in size.
        quality: of the JPEGs, 1 to 100.
        wanted: the frames to return, by their numbers from 0; None returns all. A file is read to
            its end in any case; the other pictures of a folder are not read.
        threads: threads that decode a file; 0 uses one a core. The default leaves the other cores
            to other videos.
        sink: takes the frames, which one thread decodes; None: a new list.
        frame_names: the pictures of a folder to take, as in `detect_frame_names`.

    Raises:
        UnreadableVideo: if the source cannot be read to its end, or holds no frame.
    """
    with named_faults():
        if isinstance(source, FrameArray):
            return _store_array(source, size, quality, wanted, [] if sink is None else sink)
        if source.is_dir():
            sink = [] if sink is None else sink
            return _decode_folder(source, size, quality, wanted, sink, frame_names)
        if threads != 1 and sink is None:
            with contextlib.suppress(UnreadableVideo):  # only one thread tells if damage matters
                return _decode_file(source, size, quality, wanted, threads, [])
        return _decode_file(source, size, quality, wanted, 1, [] if sink is None else sink)


def estimated_count(source: Source, frame_names: str = "") -> int:
    """Estimates the number of frames without decoding any.

    Counts the pictures of a folder or the packets of a file; most packets hold one frame.

    Raises:
        UnreadableVideo: if a folder has no picture, or the source cannot be opened.
    """
    with named_faults():
        if isinstance(source, FrameArray):
            return len(source.pixels)
        if source.is_dir():
            return len(_frame_names(source, frame_names).files)
        with VideoFile(source) as video:
            packets = video.container.demux(video.stream)
            return max(1, sum(packet.size > 0 for packet in packets))


def pictures(source: Path) -> Iterator[np.ndarray]:
    """Yields the frames of a file or folder as a player shows them: uint8 [H, W, 3], RGB.

    Their size is that of the source; turned and mirrored videos are put upright.

    Raises:
        UnreadableVideo: at a frame that cannot be read.
    """
    with named_faults():
        if source.is_dir():
            for name in _frame_names(source).files:
                yield read_picture(read_picture_file(source / name), name)
            return
        with VideoFile(source) as video:
            for frame in video.frames():
                yield frame_orientation(frame).apply(frame.to_ndarray(format="rgb24"))


def stored_shape(
    frame: av.VideoFrame, orientation: Orientation, size: FrameSize
) -> tuple[int, int]:
    """The (height, width) at which a frame is stored once it is upright.

    Raises:
        UnreadableVideo: if that is too large.
    """
    height, width = frame.height, frame.width
    if orientation.transpose:
        height, width = width, height
    return check_stored_shape(size.stored_shape(height, width), height, width)


def picture_shape(pixels: np.ndarray, size: FrameSize) -> tuple[int, int]:
    """The (height, width) at which a picture [H, W, 3] is stored; raises as `stored_shape`."""
    height, width = pixels.shape[:2]
    return check_stored_shape(size.stored_shape(height, width), height, width)


def _decode_file(
    path: Path,
    size: FrameSize,
    quality: int,
    wanted: Collection[int] | None,
    threads: int,
    sink: list[bytes] | FrameSpool,
) -> DecodedVideo:
    with VideoFile(path, threads) as video:
        shape, count = None, 0
        for number, frame in enumerate(video.frames()):
            orientation = frame_orientation(frame)
            shape = shape or stored_shape(frame, orientation, size)
            if wanted is None or number in wanted:
                sink.append(encode_frame(frame, shape, orientation, quality))
            count = number + 1
        if shape is None:
            raise UnreadableVideo("no frame in this file")
        end_checked = video.check_end()
        form = video.stream.codec_context.name
        return DecodedVideo(sink, count, video.fps, *shape, form=form, end_checked=end_checked)


def _frame_names(folder: Path, chosen: str = "") -> FrameNames:
    try:
        return detect_frame_names((path.name for path in folder.iterdir()), chosen)
    except FrameNamesError as error:
        raise UnreadableVideo(str(error)) from error


def _decode_folder(
    folder: Path,
    size: FrameSize,
    quality: int,
    wanted: Collection[int] | None,
    sink: list[bytes] | FrameSpool,
    frame_names: str,
) -> DecodedVideo:
    names, shape = _frame_names(folder, frame_names), None
    for number, name in enumerate(names.files):
        is_wanted = wanted is None or number in wanted
        if is_wanted or shape is None:  # the first picture decides on the stored size
            pixels = read_picture(read_picture_file(folder / name), name)
            shape = shape or picture_shape(pixels, size)
            if is_wanted:
                sink.append(encode_rgb(resize(pixels, *shape), quality))
    form = f"{names.pattern} from {names.first}{names.others}"
    gaps = format_gaps(names.gaps)
    return DecodedVideo(sink, len(names.files), 0.0, *shape, form=form, gaps=gaps)


def _store_array(
    source: FrameArray,
    size: FrameSize,
    quality: int,
    wanted: Collection[int] | None,
    sink: list[bytes] | FrameSpool,
) -> DecodedVideo:
    shape = picture_shape(source.pixels[0], size)
    for pixels in source.wanted(wanted):
        sink.append(encode_rgb(resize(pixels, *shape), quality))
    return DecodedVideo(sink, len(source.pixels), 0.0, *shape, form="frames in memory")


def cores() -> int:
    """The number of CPU cores that this process may use.

    macOS does not tell; there it is the number of cores of the machine.
    """
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
