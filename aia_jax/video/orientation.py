"""How a stored picture is turned and mirrored to be shown, as video and photo files say it."""

import struct
from typing import NamedTuple

import av
import numpy as np

_EXIF = b"Exif\x00\x00"
_EXIF_REACH = 1 << 16  # bytes; Exif stands in the first segments of a JPEG
_ORIENTATION_TAG = 0x0112
_SHORT = 3  # TIFF's type of 16-bit numbers


class Orientation(NamedTuple):
    """First rows and columns are exchanged, then the result is mirrored.

    Attributes:
        transpose: whether rows become columns.
        left_right: whether columns are reversed after that.
        upside_down: whether rows are reversed after that.
    """

    transpose: bool = False
    left_right: bool = False
    upside_down: bool = False

    def apply(self, pixels: np.ndarray) -> np.ndarray:
        """Turns [H, W] or [H, W, C] upright; the result is a view of `pixels`."""
        if self.transpose:
            pixels = pixels.swapaxes(0, 1)
        if self.left_right:
            pixels = pixels[:, ::-1]
        return pixels[::-1] if self.upside_down else pixels


UPRIGHT = Orientation()
# The values 1 to 8 of Exif's tag, in their order (Exif 2.3, table 6).
_EXIF_ORIENTATIONS = (
    UPRIGHT,
    Orientation(left_right=True),
    Orientation(left_right=True, upside_down=True),
    Orientation(upside_down=True),
    Orientation(transpose=True),
    Orientation(transpose=True, left_right=True),
    Orientation(transpose=True, left_right=True, upside_down=True),
    Orientation(transpose=True, upside_down=True),
)


def frame_orientation(frame: av.VideoFrame) -> Orientation:
    """How a decoded frame is put upright, by the display matrix that it carries."""
    try:
        # `rotation` of the frame leaves out mirroring.
        matrix = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # PyAV does not know a kind of side data that this frame has
        return _turned(frame.rotation)
    return matrix_orientation(np.frombuffer(matrix, np.int32)) if matrix else UPRIGHT


def matrix_orientation(matrix: np.ndarray) -> Orientation:
    """The orientation that is nearest to a display matrix.

    Args:
        matrix: int32 [9], row by row: (a, b, u, c, d, v, x, y, w) moves the pixel (p, q), q
            downwards, to (a·p + c·q, b·p + d·q) before it is shifted into the picture.
    """
    a, b, _, c, d = (int(value) for value in matrix[:5])
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return Orientation(left_right=a < 0, upside_down=d < 0)
    return Orientation(transpose=True, left_right=c < 0, upside_down=b < 0)


def _turned(degrees: int) -> Orientation:
    """The orientation that turns counter-clockwise by the nearest multiple of 90 degrees."""
    turns = round(degrees / 90) % 4
    return Orientation(turns % 2 == 1, turns in (2, 3), turns in (1, 2))


def jpeg_orientation(content: bytes) -> Orientation:
    """The orientation in the Exif segment of a JPEG file; upright if there is none."""
    if content.find(_EXIF, 0, _EXIF_REACH) < 0:  # nearly all frames
        return UPRIGHT
    at = 2
    # Each segment before the pixels: 0xFF, its kind, its length with the two bytes of the length.
    while at + 4 <= len(content) and content[at] == 0xFF and content[at + 1] != 0xDA:
        length = int.from_bytes(content[at + 2 : at + 4], "big")
        if content[at + 1] == 0xE1 and content.startswith(_EXIF, at + 4):
            return _tiff_orientation(content[at + 4 + len(_EXIF) : at + 2 + length])
        at += 2 + max(2, length)
    return UPRIGHT


def png_orientation(content: bytes) -> Orientation:
    """The orientation in the eXIf chunk of a PNG file; upright if there is none."""
    at = 8
    # Each chunk: the length of its data, its kind, its data, its checksum.
    while at + 12 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, at)
        if kind == b"eXIf":
            return _tiff_orientation(content[at + 8 : at + 8 + length])
        at += 12 + length
    return UPRIGHT


def _tiff_orientation(tiff: bytes) -> Orientation:
    """Reads tag 0x0112 of the first directory; a damaged one counts as upright, as in viewers."""
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    try:
        (directory,) = struct.unpack_from(f"{order}I", tiff, 4)
        (entries,) = struct.unpack_from(f"{order}H", tiff, directory)
        for entry in range(entries):
            tag, kind, _, value = struct.unpack_from(
                f"{order}HHIH", tiff, directory + 2 + 12 * entry
            )
            if tag == _ORIENTATION_TAG and kind == _SHORT and 1 <= value <= 8:
                return _EXIF_ORIENTATIONS[value - 1]
    except struct.error:
        return UPRIGHT
    return UPRIGHT
