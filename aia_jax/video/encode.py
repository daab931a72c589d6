"""Resizes single frames and compresses them to JPEG."""

import av
import numpy as np
import simplejpeg

from aia_jax.video.colour import MATRICES, to_jpeg_colours
from aia_jax.video.orientation import Orientation
from aia_jax.video.resize import Box, resize_box

# 8-bit Y'CbCr in three planes, which nearly every video decodes to. "yuvj" has the full range.
_PLANAR_FORMATS = frozenset(
    f"{kind}{sampling}p" for kind in ("yuv", "yuvj") for sampling in (420, 422, 444)
)
_FULL_RANGE = 2  # FFmpeg's AVColorRange


def encode_frame(
    frame: av.VideoFrame, shape: tuple[int, int], orientation: Orientation, quality: int
) -> bytes:
    """Resizes, turns and compresses one frame.

    Resizing comes first, because fewer pixels are left to turn then.

    Args:
        frame: as decoded.
        shape: (height, width) of the JPEG, after turning.
        orientation: puts the frame upright.
        quality: of the JPEG.
    """
    height, width = shape[::-1] if orientation.transpose else shape
    if frame.format.name not in _PLANAR_FORMATS or frame.colorspace not in MATRICES:
        pixels = resize(frame.to_ndarray(format="rgb24"), height, width)
        return encode_rgb(orientation.apply(pixels), quality)
    half = ((height + 1) // 2, (width + 1) // 2)
    shapes = [(height, width), half, half]  # Y, Cb, Cr
    planes = [
        resize(_pixels(plane), *shape) for plane, shape in zip(frame.planes, shapes, strict=True)
    ]
    full_range = frame.color_range == _FULL_RANGE or frame.format.name.startswith("yuvj")
    planes = to_jpeg_colours(planes, frame.colorspace, full_range)
    luma, *chroma = (np.ascontiguousarray(orientation.apply(plane)) for plane in planes)
    return simplejpeg.encode_jpeg_yuv_planes(_repeat_edges(luma), *chroma, quality=quality)


def _repeat_edges(luma: np.ndarray) -> np.ndarray:
    """Puts a copy of the last row and column in memory behind an odd height and width.

    libjpeg reads luma in blocks of 2×2 pixels, also beyond such an edge.
    """
    height, width = luma.shape
    if height % 2 == width % 2 == 0:
        return luma
    return np.pad(luma, ((0, height % 2), (0, width % 2)), mode="edge")[:height, :width]


def _pixels(plane: av.video.plane.VideoPlane) -> np.ndarray:
    """A view uint8 [height, width] of a plane whose rows are `line_size` bytes apart."""
    rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
    return rows[: plane.height, : plane.width]


def resize(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resizes uint8 [H, W] or [H, W, 3] to height × width; shrinking antialiases."""
    out = np.empty((1, height, width, *pixels.shape[2:]), np.uint8)
    resize_box([pixels], Box(pixels.shape[1], pixels.shape[0], 0, 0), out)
    return out[0]


def encode_rgb(pixels: np.ndarray, quality: int) -> bytes:
    """Compresses uint8 [H, W, 3], RGB, to a JPEG (4:2:0)."""
    return simplejpeg.encode_jpeg(
        np.ascontiguousarray(pixels), quality=quality, colorspace="RGB", colorsubsampling="420"
    )
