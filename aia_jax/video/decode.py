"""Decodes a video file or a folder of frames to JPEG frames of the stored size.

All frames come in their order, and only one frame at a time is held as pixels. A source that cannot
be read to its end raises an error: no frame is invented, repeated or dropped silently.
"""

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import simplejpeg

from aia_jax.video.encode import encode_frame, encode_rgb, resize
from aia_jax.video.frame_folder import (
    FrameNames,
    FrameNamesError,
    detect_frame_names,
    format_gaps,
)
from aia_jax.video.frame_size import FrameSize

# A file counts as cut off if its frames end earlier than its header says by more than one second
# and by more than a tenth of the length. Nothing stricter works: headers round, and the duration of
# the last frame is often unknown.
_EARLY_SECONDS, _EARLY_FRACTION = 1.0, 0.1
_JPEG, _PNG = b"\xff\xd8", b"\x89PNG"  # the first bytes of a file


class UnreadableVideo(Exception):
    """A source is damaged, empty or not a video; the text is the reason."""


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
    """

    frames: list[bytes]
    count: int
    fps: float
    height: int
    width: int
    form: str
    gaps: str = ""


def decode(
    source: Path,
    size: FrameSize,
    quality: int,
    wanted: Collection[int] | None = None,
    threads: int = 1,
) -> DecodedVideo:
    """Reads a video file, or a folder with one picture a frame, and resizes every frame.

    Args:
        source: the file or folder.
        size: of the stored frames. The first frame decides on the stored size of all, also where
            the frames of a video change in size.
        quality: of the JPEGs, 1 to 100.
        wanted: the frames to return, by their numbers from 0; None returns all. A file is read to
            its end in any case; the other pictures of a folder are not read.
        threads: threads that decode a file; 0 uses one a core. The default leaves the other cores
            to other videos.

    Raises:
        UnreadableVideo: if the source cannot be read to its end, or holds no frame.
    """
    try:
        if source.is_dir():
            return _decode_folder(source, size, quality, wanted)
        return _decode_file(source, size, quality, wanted, threads)
    except (av.error.FFmpegError, OSError) as error:
        raise UnreadableVideo(error.strerror or str(error)) from error


def estimated_count(source: Path) -> int:
    """Estimates the number of frames without decoding any.

    Counts the pictures of a folder or the packets of a file; most packets hold one frame.

    Raises:
        UnreadableVideo: if a folder has no picture, or the source cannot be opened.
    """
    try:
        if source.is_dir():
            return len(_frame_names(source).files)
        with open_video(source) as container:
            return max(
                1, sum(packet.size > 0 for packet in container.demux(video_stream(container)))
            )
    except (av.error.FFmpegError, OSError) as error:
        raise UnreadableVideo(error.strerror or str(error)) from error


def pictures(source: Path) -> Iterator[np.ndarray]:
    """Yields the frames of a file or folder as a player shows them: uint8 [H, W, 3], RGB.

    Their size is that of the source; rotated videos are turned upright.

    Raises:
        UnreadableVideo: at a frame that cannot be read.
    """
    try:
        if source.is_dir():
            for name in _frame_names(source).files:
                yield read_picture((source / name).read_bytes(), name)
            return
        with open_video(source) as container:
            for frame in container.decode(video_stream(container)):
                yield np.rot90(frame.to_ndarray(format="rgb24"), quarter_turns(frame))
    except (av.error.FFmpegError, OSError) as error:
        raise UnreadableVideo(error.strerror or str(error)) from error


def open_video(path: Path) -> av.container.InputContainer:
    """Opens a media file; it may still have no video stream.

    Raises:
        UnreadableVideo: if the file is empty.
        av.error.FFmpegError: if FFmpeg cannot read it.
    """
    if not path.stat().st_size:
        raise UnreadableVideo("the file is empty")
    # "file:" keeps FFmpeg from taking a colon in the name for a protocol. metadata_errors: a title
    # that is not UTF-8 does not make the pictures unreadable.
    return av.open(f"file:{path}", metadata_errors="replace")


def video_stream(container: av.container.InputContainer) -> av.VideoStream:
    """Returns the video stream of a file.

    Raises:
        UnreadableVideo: if there is none that FFmpeg can decode.
    """
    stream = container.streams.best("video")  # the first one may be a cover picture
    if stream is None or stream.codec_context is None:
        raise UnreadableVideo("no video stream that can be decoded in this file")
    return stream


def quarter_turns(frame: av.VideoFrame) -> int:
    """How many counter-clockwise turns by 90 degrees put a frame upright, 0 to 3.

    Phones store portrait videos as landscape frames with a rotation.
    """
    return round(frame.rotation / 90) % 4


def _decode_file(
    path: Path, size: FrameSize, quality: int, wanted: Collection[int] | None, threads: int
) -> DecodedVideo:
    with open_video(path) as container:
        stream = video_stream(container)
        stream.codec_context.thread_count = threads
        if threads != 1:
            stream.thread_type = "AUTO"  # threads for whole frames too, not only for slices
        frames, shape, end, count = [], None, None, 0
        for number, frame in enumerate(container.decode(stream)):
            if frame.is_corrupt:
                raise UnreadableVideo(f"frame {number} is damaged")
            turns = quarter_turns(frame)
            shape = shape or stored_shape(frame, turns, size)
            if wanted is None or number in wanted:
                frames.append(encode_frame(frame, shape, turns, quality))
            if frame.time is not None:
                end = max(end or 0.0, frame.time)
            count = number + 1
        if not count:
            raise UnreadableVideo("no frame in this file")
        fps = float(stream.average_rate or stream.guessed_rate or 0)
        promised = promised_end(container, stream)
        if end is not None and end + (1 / fps if fps else 0) < promised - max(
            _EARLY_SECONDS, _EARLY_FRACTION * promised
        ):
            raise UnreadableVideo(
                f"cut off: its {count} frames end at {end:.1f} s, the file's header promises "
                f"{promised:.1f} s"
            )
        return DecodedVideo(frames, count, fps, *shape, form=stream.codec_context.name)


def stored_shape(frame: av.VideoFrame, turns: int, size: FrameSize) -> tuple[int, int]:
    """The (height, width) at which a frame is stored after `turns` quarter turns."""
    if turns % 2:
        return size.stored_shape(frame.width, frame.height)
    return size.stored_shape(frame.height, frame.width)


def promised_end(container: av.container.InputContainer, stream: av.VideoStream) -> float:
    """The second at which the stream ends according to the file's header; 0 if it does not say."""
    if stamp := stream.metadata.get("DURATION"):  # Matroska and WebM: 00:00:04.170000000
        try:
            hours, minutes, seconds = stamp.split(":")
            return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
        except ValueError:
            return 0.0
    if container.format.name == "avi":  # here FFmpeg guesses the duration from the file's size
        return float(stream.frames / stream.average_rate) if stream.average_rate else 0.0
    if not stream.duration:
        return 0.0
    return float(((stream.start_time or 0) + stream.duration) * stream.time_base)


def _frame_names(folder: Path) -> FrameNames:
    try:
        return detect_frame_names(path.name for path in folder.iterdir())
    except FrameNamesError as error:
        raise UnreadableVideo(str(error)) from error


def _decode_folder(
    folder: Path, size: FrameSize, quality: int, wanted: Collection[int] | None
) -> DecodedVideo:
    names = _frame_names(folder)
    frames, shape = [], None
    for number, name in enumerate(names.files):
        is_wanted = wanted is None or number in wanted
        if is_wanted or shape is None:  # the first picture decides on the stored size
            pixels = read_picture((folder / name).read_bytes(), name)
            shape = shape or size.stored_shape(*pixels.shape[:2])
            if is_wanted:
                frames.append(encode_rgb(resize(pixels, *shape), quality))
    form, gaps = f"{names.pattern} from {names.first}", format_gaps(names.gaps)
    return DecodedVideo(frames, len(names.files), 0.0, *shape, form=form, gaps=gaps)


def read_picture(content: bytes, name: str) -> np.ndarray:
    """Decodes a JPEG or PNG file to uint8 [H, W, 3], RGB.

    Args:
        content: of the file.
        name: of the picture, for the error.

    Raises:
        UnreadableVideo: if the picture is damaged; a partly decoded one is never returned.
    """
    try:
        if content.startswith(_JPEG):
            return simplejpeg.decode_jpeg(content, colorspace="RGB", strict=True)
        if content.startswith(_PNG):
            decoder = av.CodecContext.create("png", "r")
            decoder.options = {"err_detect": "crccheck+explode"}
            return decoder.decode(av.Packet(content))[0].to_ndarray(format="rgb24")
    except (ValueError, IndexError, av.error.FFmpegError) as error:
        raise UnreadableVideo(
            f"frame {name} is damaged ({getattr(error, 'strerror', None) or error})"
        ) from error
    raise UnreadableVideo(f"frame {name} is {'neither JPEG nor PNG' if content else 'empty'}")


def cores() -> int:
    """The number of CPU cores that this process may use.

    macOS does not tell; there it is the number of cores of the machine.
    """
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
