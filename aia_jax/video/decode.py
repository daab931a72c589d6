"""From a video file or a folder of frames to JPEG frames of the stored size.

Every wanted frame is kept, in order, and one frame at a time is held as pixels. A source that
cannot be read to its end gives nothing
at all: no frame is made up, repeated or left out silently.
"""

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import simplejpeg

from aia_jax.video.colour import MATRICES, to_jpeg_colours
from aia_jax.video.frame_folder import FrameNames, FrameNamesError, detect
from aia_jax.video.frame_size import FrameSize
from aia_jax.video.resize import Box, resize_box

# A file that ends this long before the time its header promises was cut off on its way here. (To
# the frame it cannot be asked for: headers round, and the last frame's duration is often unknown.)
_EARLY_SECONDS, _EARLY_SHARE = 1.0, 0.1
# 8-bit Y'CbCr with separate planes: what nearly all video decodes to. "yuvj": the full range of
# values.
_PLANAR = frozenset(
    f"{kind}{sampling}p" for kind in ("yuv", "yuvj") for sampling in (420, 422, 444)
)
_FULL_RANGE = 2  # FFmpeg's AVColorRange
_JPEG, _PNG = b"\xff\xd8", b"\x89PNG"


class UnreadableVideo(Exception):
    """A source is damaged, empty or no video; the text is the reason."""


@dataclass(frozen=True)
class DecodedVideo:
    """The frames of one video as they are stored.

    Attributes:
        frames: JPEG, 4:2:0; all, or those that were asked for.
        count: how many frames the source has.
        fps: frames a second; 0 where the source does not say (folders of frames).
        height: of the frames, in pixels.
        width: of the frames, in pixels.
        form: how the source comes: the codec's name, or how its frames are named.
        gaps: which frame numbers a folder lacks; empty if none.
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
    """Reads the frames of a video file, or of a folder with one picture a frame, and brings each to
    the stored size.

    Args:
        source: the file or folder.
        size: of the stored frames; a video whose frames change in size is stored at the size that
            its first frame asks for.
        quality: of the JPEG, 1 to 100.
        wanted: numbers of the frames to keep, from 0; None keeps all. A file is read to its end
            either way, a folder's other pictures are not read.
        threads: that decode a file; 0 takes one a core. The default leaves the cores to other
            videos.

    Raises:
        UnreadableVideo: if the source cannot be read to its end, or holds no frame.
    """
    try:
        return (
            _decode_folder(source, size, quality, wanted)
            if source.is_dir()
            else _decode_file(source, size, quality, wanted, threads)
        )
    except (av.error.FFmpegError, OSError) as error:
        raise UnreadableVideo(error.strerror or str(error)) from error


def estimated_count(source: Path) -> int:
    """How many frames a source seems to have: pictures in a folder, packets in a file, which mostly
    hold a frame each. Nothing is decoded.

    Raises:
        UnreadableVideo: if the source holds none, or cannot be opened.
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
    """The frames of a file or folder as they are shown: uint8 [H, W, 3], RGB, in their own size.

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
    """Opens a video file; its streams may still be of any kind."""
    if not path.stat().st_size:
        raise UnreadableVideo("the file is empty")
    # "file:" keeps FFmpeg from reading a colon in the name as a protocol; a title that is no UTF-8
    # is no reason to refuse the pictures.
    return av.open(f"file:{path}", metadata_errors="replace")


def video_stream(container: av.container.InputContainer) -> av.VideoStream:
    """The stream that is the video."""
    stream = container.streams.best("video")  # not the first: that may be a cover picture
    if stream is None or stream.codec_context is None:
        raise UnreadableVideo("no video stream that can be decoded in this file")
    return stream


def quarter_turns(frame: av.VideoFrame) -> int:
    """How often a frame is to be turned by 90 degrees, counter-clockwise, before it is shown:
    phones store portrait videos lying.
    """
    return round(frame.rotation / 90) % 4


def _decode_file(
    path: Path, size: FrameSize, quality: int, wanted: Collection[int] | None, threads: int
) -> DecodedVideo:
    with open_video(path) as container:
        stream = video_stream(container)
        stream.codec_context.thread_count = threads
        if threads != 1:
            stream.thread_type = (
                "AUTO"  # whole frames beside one another too, not only parts of one
            )
        frames, shape, end, count = [], None, None, 0
        for number, frame in enumerate(container.decode(stream)):
            if frame.is_corrupt:
                raise UnreadableVideo(f"frame {number} is damaged")
            turns = quarter_turns(frame)
            sides = (frame.height, frame.width)
            shape = shape or size.of(*(sides[::-1] if turns % 2 else sides))
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
            _EARLY_SECONDS, _EARLY_SHARE * promised
        ):
            raise UnreadableVideo(
                f"cut off: its {count} frames end at {end:.1f} s, the file's header promises "
                f"{promised:.1f} s"
            )
        return DecodedVideo(frames, count, fps, *shape, form=stream.codec_context.name)


def promised_end(container: av.container.InputContainer, stream: av.VideoStream) -> float:
    """The second at which the stream ends by the file's header; 0 where the header does not say."""
    if stamp := stream.metadata.get("DURATION"):  # Matroska and WebM: 00:00:04.170000000
        try:
            hours, minutes, seconds = stamp.split(":")
            return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
        except ValueError:
            return 0.0
    if container.format.name == "avi":  # its stream duration is a guess from the file's size
        return float(stream.frames / stream.average_rate) if stream.average_rate else 0.0
    return (
        float(((stream.start_time or 0) + stream.duration) * stream.time_base)
        if stream.duration
        else 0.0
    )


def encode_frame(frame: av.VideoFrame, shape: tuple[int, int], turns: int, quality: int) -> bytes:
    """Resizes (before turning: fewer pixels to turn) and compresses one frame. `shape` is (height,
    width) after turning.
    """
    height, width = shape[::-1] if turns % 2 else shape
    if frame.format.name not in _PLANAR or frame.colorspace not in MATRICES:
        return encode_rgb(
            np.rot90(resize(frame.to_ndarray(format="rgb24"), height, width), turns), quality
        )
    sides = [(height, width), *[((height + 1) // 2, (width + 1) // 2)] * 2]
    planes = [
        resize(_pixels(plane), *side) for plane, side in zip(frame.planes, sides, strict=True)
    ]
    full_range = frame.color_range == _FULL_RANGE or frame.format.name.startswith("yuvj")
    planes = to_jpeg_colours(planes, frame.colorspace, full_range)
    planes = [np.ascontiguousarray(np.rot90(plane, turns)) for plane in planes]
    return simplejpeg.encode_jpeg_yuv_planes(*planes, quality=quality)


def _pixels(plane: av.video.plane.VideoPlane) -> np.ndarray:
    """uint8 [height, width]; the rows lie `line_size` bytes apart. No copy."""
    return np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[
        : plane.height, : plane.width
    ]


def resize(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """uint8 [H, W] or [H, W, 3] → the same at height × width, antialiased where it shrinks."""
    out = np.empty((1, height, width, *pixels.shape[2:]), np.uint8)
    resize_box([pixels], Box(pixels.shape[1], pixels.shape[0], 0, 0), out)
    return out[0]


def encode_rgb(pixels: np.ndarray, quality: int) -> bytes:
    """uint8 [H, W, 3], RGB → JPEG, 4:2:0."""
    return simplejpeg.encode_jpeg(
        np.ascontiguousarray(pixels), quality=quality, colorspace="RGB", colorsubsampling="420"
    )


def _frame_names(folder: Path) -> FrameNames:
    try:
        return detect(path.name for path in folder.iterdir())
    except FrameNamesError as error:
        raise UnreadableVideo(str(error)) from error


def _decode_folder(
    folder: Path, size: FrameSize, quality: int, wanted: Collection[int] | None
) -> DecodedVideo:
    names = _frame_names(folder)
    frames, shape = [], None
    for number, name in enumerate(names.files):
        if (
            shape is None or wanted is None or number in wanted
        ):  # the first is read in any case: it decides on the size
            pixels = read_picture((folder / name).read_bytes(), name)
            shape = shape or size.of(*pixels.shape[:2])
            if wanted is None or number in wanted:
                frames.append(encode_rgb(resize(pixels, *shape), quality))
    gaps = ", ".join(
        f"{first}" if first == last else f"{first} to {last}" for first, last in names.gaps
    )
    return DecodedVideo(
        frames, len(names.files), 0.0, *shape, form=f"{names.pattern} from {names.first}", gaps=gaps
    )


def read_picture(content: bytes, name: str) -> np.ndarray:
    """uint8 [H, W, 3], RGB, of a JPEG or PNG file. Damage is an error that says `name`, never a
    picture with a grey rest.
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
    """The CPU cores that this process may use; where the system does not tell, as macOS, all of the
    machine.
    """
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
