"""Decodes a segment of a longer video, or the pictures of an archive, to JPEG frames.

A segment begins and ends at the exact frame, and the frames before it are not read.
"""

import math
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from aia_jax.video.decode import DecodedVideo, picture_shape, stored_shape
from aia_jax.video.encode import encode_frame, encode_rgb, resize
from aia_jax.video.faults import UnreadableVideo, check_regular, named_faults
from aia_jax.video.frame_folder import FrameNamesError, find_gaps, format_gaps
from aia_jax.video.frame_size import FrameSize
from aia_jax.video.frame_spool import FrameSpool
from aia_jax.video.orientation import frame_orientation
from aia_jax.video.picture import read_picture
from aia_jax.video.picture_store import PictureStore, open_store
from aia_jax.video.video_file import SeekMissed, VideoFile

# Seconds before a segment to which decoding goes back: FFmpeg misses the key frame before it in
# streams that have no list of key frames (MPEG-TS and MPEG-PS).
_SEEK_BACK = (0.0, 2.0, 10.0, 40.0)
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
        return f"{_UNIT_NAMES[self.unit]} {_format(self.start)} to {_format(last)}"


def _format(number: int | float) -> str:
    try:
        return f"{number:.12g}"
    except OverflowError:  # an integer beyond all floats
        return "infinity" if number > 0 else "-infinity"


def decode_segment(
    source: Path,
    segment: Segment | None,
    size: FrameSize,
    quality: int,
    sink: list[bytes] | FrameSpool | None = None,
    frame_names: str = "",
) -> DecodedVideo:
    """Reads a segment of a video file, of a folder of pictures or of a .tar archive of pictures.

    Segments that follow one another hold each frame once.

    Args:
        source: the file, folder or archive.
        segment: the frames to read. In a file, those whose time since the first frame lies in it;
            of pictures, those whose number or position does. None reads a whole archive.
        size: of the stored frames.
        quality: of the JPEGs, 1 to 100.
        sink: takes the frames; None: a new list.
        frame_names: the pictures to take, as in `detect_frame_names`.

    Raises:
        UnreadableVideo: if one of the frames cannot be read, or the segment has no frame.
    """
    sink = [] if sink is None else sink
    with named_faults():
        if segment is not None and not segment.start < segment.stop:  # also where one is NaN
            raise UnreadableVideo(f"the {segment} are no part of a video: none lies between them")
        try:
            if source.is_dir() or source.suffix.lower() == ".tar":
                if not source.is_dir():
                    check_regular(source)
                store = open_store(source, frame_names)
                return _decode_pictures(store, segment, size, quality, sink)
            return _decode_file(source, segment, size, quality, sink)
        except (FrameNamesError, tarfile.TarError) as error:
            raise UnreadableVideo(str(error)) from error


def _decode_pictures(
    store: PictureStore,
    segment: Segment | None,
    size: FrameSize,
    quality: int,
    sink: list[bytes] | FrameSpool,
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
        # A number that NumPy's integers cannot hold lies behind all names, as the last one does.
        span = [min(number, int(store.numbers[-1]) + 1) for number in (segment.start, segment.stop)]
        positions = range(*np.searchsorted(store.numbers, span).tolist())
    if not positions:
        raise UnreadableVideo(
            f"no frame in the {segment}; there are numbers {store.numbers[0]} to "
            f"{store.numbers[-1]}"
        )
    shape = None
    for name, content in store.read(positions):
        pixels = read_picture(content, name)
        shape = shape or picture_shape(pixels, size)
        sink.append(encode_rgb(resize(pixels, *shape), quality))
    place = " in .tar" if store.is_archive else ""
    form = f"{store.pattern} from {store.numbers[0]}{place}{store.others}"
    gaps = _missing_numbers(store, positions, segment)
    return DecodedVideo(sink, len(positions), 0.0, *shape, form=form, gaps=gaps)


def _missing_numbers(store: PictureStore, positions: range, segment: Segment) -> str:
    """The frame numbers of the segment that the store lacks, as "3 to 5, 9"."""
    numbers = store.numbers[positions.start : positions.stop].tolist()
    if segment.unit == "numbers":  # numbers can also be missing at the ends of the segment
        numbers = [int(segment.start) - 1, *numbers, int(segment.stop)]
    elif segment.stop > len(store.numbers):  # the segment asks for more pictures than there are
        numbers.append(numbers[-1] + int(segment.stop) - positions.stop + 1)
    return format_gaps(find_gaps(numbers))


def _decode_file(
    path: Path, segment: Segment, size: FrameSize, quality: int, sink: list[bytes] | FrameSpool
) -> DecodedVideo:
    if segment.unit != "seconds":
        raise UnreadableVideo("the part of a video file is to be given in seconds")
    for seconds_back in _SEEK_BACK:
        if segment.start - seconds_back <= 0:
            break
        with VideoFile(path) as video:
            if video.is_numbered:
                break
            try:
                video.seek(segment.start - seconds_back)
                return _decode_range(video, segment, size, quality, sink)
            except SeekMissed:
                continue
    with VideoFile(path) as video:
        return _decode_range(video, segment, size, quality, sink)


def _decode_range(
    video: VideoFile,
    segment: Segment,
    size: FrameSize,
    quality: int,
    sink: list[bytes] | FrameSpool,
) -> DecodedVideo:
    # A few files have frames before the time at which they say that they begin.
    start = segment.start if segment.start > 0 else -math.inf
    shape, count = None, 0
    for frame in video.frames(start, segment.stop):
        orientation = frame_orientation(frame)
        shape = shape or stored_shape(frame, orientation, size)
        sink.append(encode_frame(frame, shape, orientation, quality))
        count += 1
    end_checked = not video.at_end or video.check_end(segment.stop)
    if shape is None:
        raise UnreadableVideo(f"no frame in the {segment}")
    form = video.stream.codec_context.name
    return DecodedVideo(sink, count, video.fps, *shape, form=form, end_checked=end_checked)
