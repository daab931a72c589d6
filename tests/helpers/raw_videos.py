"""Writes tiny raw videos and folders of frames, also ones that cannot be read."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import simplejpeg

CODECS = {
    ".mp4": "libx264",
    ".mov": "libx264",
    ".mkv": "libx264",
    ".webm": "libvpx",
    ".avi": "mpeg4",
    ".ts": "libx264",
    ".mpg": "mpeg2video",
    ".wmv": "wmv2",
    ".gif": "gif",
}


def numbered_frames(
    count: int, height: int, width: int, colour: Sequence[int] = (255, 255, 255)
) -> list[np.ndarray]:
    """Frames uint8 [H, W, 3] whose brightness shows their number.

    It grows with the number, and from the top left to the bottom right it falls to half.
    """
    fall = np.linspace(1, 0.75, height)[:, None] * np.linspace(1, 0.75, width)
    level = np.linspace(0.25, 1, count)[:, None, None] * fall
    return list(np.rint(level[..., None] * np.array(colour)).astype(np.uint8))


def write_video(
    path: Path,
    frames: Sequence[np.ndarray],
    fps: int = 12,
    codec: str = "",
    pix_fmt: str = "yuv420p",
    **stream: Any,
) -> Path:
    """Encodes frames uint8 [H, W, 3].

    `stream` sets fields of the codec context; `colorspace` and `color_range` also convert the
    frames.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        options = {"crf": "12"} if codec in ("", "libx264") and path.suffix != ".webm" else {}
        track = container.add_stream(codec or CODECS[path.suffix], rate=fps, options=options)
        track.height, track.width, track.pix_fmt = *frames[0].shape[:2], pix_fmt
        track.bit_rate = 4_000_000
        for field, value in stream.items():
            setattr(track.codec_context, field, value)
        for pixels in frames:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame = frame.reformat(
                format=pix_fmt,
                dst_colorspace=stream.get("colorspace"),
                dst_color_range=stream.get("color_range"),
            )
            container.mux(track.encode(frame))
        container.mux(track.encode())
    return path


def write_frames(
    folder: Path, frames: Sequence[np.ndarray], pattern: str = "%05d.jpg", first: int = 1
) -> Path:
    """Writes a folder of JPEG frames."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, pixels in enumerate(frames, first):
        (folder / (pattern % number)).write_bytes(
            simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality=98)
        )
    return folder


def remux(
    source: Path,
    path: Path,
    shift_seconds: float = 0.0,
    rotation: int = 0,
    matrix: Sequence[int] = (),
    options: Mapping[str, str] | None = None,
) -> Path:
    """Copies a video's packets with a rotation or display matrix, options and earlier time stamps.

    An edit list hides the frames that `shift_seconds` moves before the start.
    """
    with av.open(str(source)) as old, av.open(str(path), "w", options=dict(options or {})) as new:
        track = new.add_stream_from_template(old.streams.video[0])
        if rotation:
            track.set_display_rotation(rotation)
        if matrix:
            track.set_display_matrix(matrix)
        for packet in old.demux(old.streams.video[0]):
            if packet.dts is not None:
                ticks = round(shift_seconds / packet.time_base)
                packet.pts, packet.dts, packet.stream = (
                    packet.pts - ticks,
                    packet.dts - ticks,
                    track,
                )
                new.mux(packet)
    return path


def write_empty_video(path: Path) -> Path:
    """Writes a valid file with a video track that has no frames."""
    with av.open(str(path), "w") as container:
        track = container.add_stream("mpeg4", rate=12)
        track.height = track.width = 32
        track.pix_fmt = "yuv420p"
        container.start_encoding()
    return path


def decoded(jpegs: Sequence[bytes]) -> np.ndarray:
    """Decodes JPEGs to int64 [frames, H, W, 3], RGB."""
    return np.stack([simplejpeg.decode_jpeg(jpeg) for jpeg in jpegs]).astype(int)
