"""Decodes a segment of a longer video, or the pictures of an archive, to JPEG frames.

A segment begins and ends at the exact frame, and the frames before it are not read.
"""

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import av
import numpy as np

from aia_jax.video.decode import (
    DecodedVideo,
    UnreadableVideo,
    open_video,
    promised_end,
    quarter_turns,
    read_picture,
    stored_shape,
    video_stream,
)
from aia_jax.video.encode import encode_frame, encode_rgb, resize
from aia_jax.video.frame_folder import FrameNamesError, find_gaps, format_gaps
from aia_jax.video.frame_size import FrameSize
from aia_jax.video.picture_store import PictureStore, open_store

_SAME_TIME = 1e-4  # seconds; time stamps are rounded, in some containers to milliseconds
# A file counts as cut off if its frames end this long before both the end of the segment and the
# end of the file according to its header.
_EARLY_SECONDS = 1.0
# How a segment's text names its unit. The text is part of bad.txt, of video ids and of the checksum
# by which an unfinished preparation is recognised, so it must not change.
_UNIT_NAMES = {"seconds": "seconds", "numbers": "numbers", "positions": "places"}


@dataclass(frozen=True, slots=True)
class Segment:
    """The part of a longer video from `start` (included) to `stop` (not included).

    Attributes:
        start: where it begins; a video begins at 0 seconds and at position 0.
        stop: where it ends.
        unit: "seconds" in a video file; for pictures "numbers" (those in the file names) or
            "positions" (counted from 0 in the order of the numbers).
    """

    start: int | float
    stop: int | float
    unit: Literal["seconds", "numbers", "positions"]

    def __str__(self) -> str:
        last = self.stop if self.unit == "seconds" else self.stop - 1
        return f"{_UNIT_NAMES[self.unit]} {self.start:.12g} to {last:.12g}"


def decode_segment(
    source: Path, segment: Segment | None, size: FrameSize, quality: int
) -> DecodedVideo:
    """Reads a segment of a video file, of a folder of pictures or of a .tar archive of pictures.

    Args:
        source: the file, folder or archive.
        segment: the frames to read. In a file, those whose time since the first frame lies in it;
            of pictures, those whose number or position does. None reads a whole archive.
        size: of the stored frames.
        quality: of the JPEGs, 1 to 100.

    Raises:
        UnreadableVideo: if one of the frames cannot be read, or the segment has no frame.
    """
    try:
        if source.is_dir() or source.suffix.lower() == ".tar":
            return _decode_pictures(open_store(source), segment, size, quality)
        return _decode_file(source, segment, size, quality)
    except (FrameNamesError, tarfile.TarError) as error:
        raise UnreadableVideo(str(error)) from error
    except (av.error.FFmpegError, OSError) as error:
        raise UnreadableVideo(error.strerror or str(error)) from error


def _decode_pictures(
    store: PictureStore, segment: Segment | None, size: FrameSize, quality: int
) -> DecodedVideo:
    count = len(store.numbers)
    if segment is None:
        segment = Segment(0, count, "positions")
    if segment.unit == "seconds":
        raise UnreadableVideo(
            "pictures have numbers and no times: their part is to be given in numbers"
        )
    if segment.unit == "positions":
        positions = range(min(int(segment.start), count), min(int(segment.stop), count))
    else:
        positions = range(*np.searchsorted(store.numbers, (segment.start, segment.stop)).tolist())
    if not positions:
        raise UnreadableVideo(
            f"no frame in the {segment}; there are numbers {store.numbers[0]} to "
            f"{store.numbers[-1]}"
        )
    frames, shape = [], None
    for name, content in store.read(positions):
        pixels = read_picture(content, name)
        shape = shape or size.stored_shape(*pixels.shape[:2])
        frames.append(encode_rgb(resize(pixels, *shape), quality))
    form = f"{store.pattern} from {store.numbers[0]}{' in .tar' if store.is_archive else ''}"
    gaps = _missing_numbers(store, positions, segment)
    return DecodedVideo(frames, len(frames), 0.0, *shape, form=form, gaps=gaps)


def _missing_numbers(store: PictureStore, positions: range, segment: Segment) -> str:
    """The frame numbers of the segment that the store lacks, as "3 to 5, 9"."""
    numbers = store.numbers[positions.start : positions.stop].tolist()
    if segment.unit == "numbers":  # numbers can also be missing at the ends of the segment
        numbers = [int(segment.start) - 1, *numbers, int(segment.stop)]
    elif segment.stop > len(store.numbers):  # the segment asks for more pictures than there are
        numbers.append(numbers[-1] + int(segment.stop) - positions.stop + 1)
    return format_gaps(find_gaps(numbers))


def _decode_file(path: Path, segment: Segment, size: FrameSize, quality: int) -> DecodedVideo:
    if segment.unit != "seconds":
        raise UnreadableVideo("the part of a video file is to be given in seconds")
    frames, shape = [], None
    with open_video(path) as container:
        stream = video_stream(container)
        stream.codec_context.thread_count = 1  # the other cores decode other videos
        fps = float(stream.average_rate or stream.guessed_rate or 0)
        origin = float((stream.start_time or 0) * stream.time_base)
        end = None
        for frame in _frames_from(container, stream, origin + segment.start):
            end = frame.time - origin
            if end > segment.stop - _SAME_TIME:
                break
            if frame.is_corrupt:
                raise UnreadableVideo(f"the frame at {end:.2f} s is damaged")
            turns = quarter_turns(frame)
            shape = shape or stored_shape(frame, turns, size)
            frames.append(encode_frame(frame, shape, turns, quality))
        if not frames:
            raise UnreadableVideo(f"no frame in the {segment}")
        promised = promised_end(container, stream) - origin
        if end + (1 / fps if fps else 0) < min(segment.stop, promised) - _EARLY_SECONDS:
            raise UnreadableVideo(
                f"cut off: its frames end at {end:.1f} s, the file's header promises "
                f"{promised:.1f} s"
            )
        return DecodedVideo(frames, len(frames), fps, *shape, form=stream.codec_context.name)


def _frames_from(
    container: av.container.InputContainer, stream: av.VideoStream, start: float
) -> Iterator[av.VideoFrame]:
    """Yields the frames from `start` on, a time stamp of the stream in seconds."""
    first = True
    for frame in _seek_and_decode(container, stream, start):
        if frame.time is None:
            raise UnreadableVideo("frames without times: no segment can be cut out of this file")
        if first and frame.time > start + _SAME_TIME and start > 0:
            # The file jumped behind the start, so everything is decoded from the beginning.
            container.seek(0)
            yield from (
                frame
                for frame in container.decode(stream)
                if frame.time is not None and frame.time >= start - _SAME_TIME
            )
            return
        first = False
        if frame.time >= start - _SAME_TIME:
            yield frame


def _seek_and_decode(
    container: av.container.InputContainer, stream: av.VideoStream, start: float
) -> Iterator[av.VideoFrame]:
    """Decodes from the last key frame before `start`, or from the beginning if seeking fails."""
    try:
        container.seek(max(0, int(start / stream.time_base)), stream=stream)
    except av.error.FFmpegError:
        container.seek(0)
    yield from container.decode(stream)
