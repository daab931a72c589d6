"""Decodes the JPEG and PNG files of which a folder or an archive of frames consists."""

import struct
from pathlib import Path

import av
import numpy as np
import simplejpeg

from aia_jax.video.faults import UnreadableVideo, check_pixels, check_regular
from aia_jax.video.orientation import jpeg_orientation, png_orientation

_JPEG, _PNG = b"\xff\xd8", b"\x89PNG"  # the first bytes of a file
_PNG_SIZE_AT = 16  # the byte at which a PNG file has its width and height


def read_picture_file(path: Path) -> bytes:
    """Reads a picture's file.

    Raises:
        UnreadableVideo: if it cannot be read, or is no file; names the picture.
    """
    try:
        check_regular(path)
        return path.read_bytes()
    except OSError as error:
        raise UnreadableVideo(f"frame {path.name}: {error.strerror or error}") from error
    except UnreadableVideo as error:
        reason = str(error).replace("the file is empty", "empty")
        raise UnreadableVideo(f"frame {path.name} is {reason}") from error


def read_picture(content: bytes, name: str) -> np.ndarray:
    """Decodes a JPEG or PNG file to uint8 [H, W, 3], RGB, turned upright as its Exif data say.

    Args:
        content: of the file.
        name: of the picture, for the error.

    Raises:
        UnreadableVideo: if the picture is damaged or claims more than `MAX_PIXELS`; a partly
            decoded one is never returned.
    """
    try:
        if content.startswith(_JPEG):
            check_pixels(*simplejpeg.decode_jpeg_header(content)[:2], f"frame {name}")
            pixels = simplejpeg.decode_jpeg(content, colorspace="RGB", strict=True)
            return jpeg_orientation(content).apply(pixels)
        if content.startswith(_PNG):
            width, height = struct.unpack_from(">II", content, _PNG_SIZE_AT)
            check_pixels(height, width, f"frame {name}")
            return png_orientation(content).apply(_decode_png(content))
    except (ValueError, IndexError, struct.error, av.error.FFmpegError) as error:
        raise UnreadableVideo(
            f"frame {name} is damaged ({getattr(error, 'strerror', None) or error})"
        ) from error
    raise UnreadableVideo(f"frame {name} is {'neither JPEG nor PNG' if content else 'empty'}")


def _decode_png(content: bytes) -> np.ndarray:
    decoder = av.CodecContext.create("png", "r")
    decoder.options = {"err_detect": "crccheck+explode"}
    return decoder.decode(av.Packet(content))[0].to_ndarray(format="rgb24")
