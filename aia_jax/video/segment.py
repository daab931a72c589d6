"""A stretch of a longer video, or the pictures of an archive, to JPEG frames: cut at the frame,
without reading what lies before it.
"""

import tarfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import av
import numpy as np

from aia_jax.prepare.item import Part
from aia_jax.video import decode as whole
from aia_jax.video.decode import DecodedVideo, UnreadableVideo
from aia_jax.video.frame_folder import FrameNamesError
from aia_jax.video.frame_size import FrameSize
from aia_jax.video.picture_store import PictureStore, open_store

_SAME_TIME = 1e-4  # seconds; time stamps are rounded, some containers' to milliseconds
_MISSED_SECONDS = (
    1.0  # a segment that ends this long before its stop was cut out of a file that is cut off
)


def decode_part(source: Path, part: Part | None, size: FrameSize, quality: int) -> DecodedVideo:
    """Reads the frames of a part of a video file, of a folder of pictures or of a .tar archive of
    pictures.

    Args:
        source: the file, folder or archive.
        part: which frames: those whose time (from the video's first frame), number or place lies in
            it; None: all of an archive.
        size: of the stored frames.
        quality: of the JPEG, 1 to 100.

    Raises:
        UnreadableVideo: if one of the frames cannot be read, or there is none.
    """
    try:
        if source.is_dir() or source.suffix.lower() == ".tar":
            return _decode_pictures(open_store(source), part, size, quality)
        return _decode_file(source, part, size, quality)
    except (FrameNamesError, tarfile.TarError) as error:
        raise UnreadableVideo(str(error)) from error
    except (av.error.FFmpegError, OSError) as error:
        raise UnreadableVideo(error.strerror or str(error)) from error


def _decode_pictures(
    store: PictureStore, part: Part | None, size: FrameSize, quality: int
) -> DecodedVideo:
    if part is None:
        part = Part(0, len(store.numbers), "places")
    if part.unit == "seconds":
        raise UnreadableVideo(
            "pictures have numbers and no times: their part is to be given in numbers"
        )
    if part.unit == "places":
        places = range(
            min(int(part.start), len(store.numbers)), min(int(part.stop), len(store.numbers))
        )
    else:
        places = range(*np.searchsorted(store.numbers, (part.start, part.stop)).tolist())
    if not places:
        raise UnreadableVideo(
            f"no frame in the {part}; there are numbers {store.numbers[0]} to {store.numbers[-1]}"
        )
    frames, shape = [], None
    for name, content in store.read(places):
        pixels = whole.read_picture(content, name)
        shape = shape or size.of(*pixels.shape[:2])
        frames.append(whole.encode_rgb(whole.resize(pixels, *shape), quality))
    form = f"{store.pattern} from {store.numbers[0]}{' in .tar' if len(store.blocks) else ''}"
    return DecodedVideo(
        frames, len(frames), 0.0, *shape, form=form, gaps=_gaps(store, places, part)
    )


def _gaps(store: PictureStore, places: range, part: Part) -> str:
    """The numbers that are missing, as "3 to 5, 9"."""
    numbers = store.numbers[places.start : places.stop].tolist()
    if part.unit == "numbers":  # the part's own ends count too
        numbers = [int(part.start) - 1, *numbers, int(part.stop)]
    elif part.stop > len(store.numbers):  # fewer than were promised
        numbers.append(numbers[-1] + int(part.stop) - places.stop + 1)
    gaps = [(a + 1, b - 1) for a, b in pairwise(numbers) if b > a + 1]
    return ", ".join(f"{first}" if first == last else f"{first} to {last}" for first, last in gaps)


def _decode_file(path: Path, part: Part, size: FrameSize, quality: int) -> DecodedVideo:
    if part.unit != "seconds":
        raise UnreadableVideo("the part of a video file is to be given in seconds")
    frames, shape = [], None
    with whole.open_video(path) as container:
        stream = whole.video_stream(container)
        stream.codec_context.thread_count = 1  # the other cores decode other videos
        fps = float(stream.average_rate or stream.guessed_rate or 0)
        origin = float((stream.start_time or 0) * stream.time_base)
        end = None
        for frame in _frames_from(container, stream, origin + part.start):
            end = frame.time - origin
            if end > part.stop - _SAME_TIME:
                break
            if frame.is_corrupt:
                raise UnreadableVideo(f"the frame at {end:.2f} s is damaged")
            turns = whole.quarter_turns(frame)
            sides = (frame.height, frame.width)
            shape = shape or size.of(*(sides[::-1] if turns % 2 else sides))
            frames.append(whole.encode_frame(frame, shape, turns, quality))
        if not frames:
            raise UnreadableVideo(f"no frame in the {part}")
        promised = whole.promised_end(container, stream) - origin
        if end + (1 / fps if fps else 0) < min(part.stop, promised) - _MISSED_SECONDS:
            raise UnreadableVideo(
                f"cut off: its frames end at {end:.1f} s, the file's header promises "
                f"{promised:.1f} s"
            )
        return DecodedVideo(frames, len(frames), fps, *shape, form=stream.codec_context.name)


def _frames_from(
    container: av.container.InputContainer, stream: av.VideoStream, start: float
) -> Iterator[av.VideoFrame]:
    """The frames from the second `start` on, by the stamps of the stream."""
    first = True
    for frame in _sought(container, stream, start):
        if frame.time is None:
            raise UnreadableVideo("frames without times: no segment can be cut out of this file")
        if first and frame.time > start + _SAME_TIME and start > 0:
            container.seek(0)  # some files are not good at finding a place
            yield from (
                frame
                for frame in container.decode(stream)
                if frame.time is not None and frame.time >= start - _SAME_TIME
            )
            return
        first = False
        if frame.time >= start - _SAME_TIME:
            yield frame


def _sought(
    container: av.container.InputContainer, stream: av.VideoStream, start: float
) -> Iterator[av.VideoFrame]:
    """Decodes from the last key frame before `start`; where a file cannot do that, from its
    beginning.
    """
    try:
        container.seek(max(0, int(start / stream.time_base)), stream=stream)
    except av.error.FFmpegError:
        container.seek(0)
    yield from container.decode(stream)
