"""Converts the colour planes of a video frame to those of a JPEG, without going through RGB.

Most videos store Y'CbCr with a luma of 16 to 235 and one of several matrices. A JPEG file (JFIF)
always stores BT.601 with the full range. Staying in Y'CbCr halves the work and keeps the half-size
chroma planes as they are.
"""

from functools import cache

import cv2
import numpy as np

# FFmpeg's AVColorSpace, as PyAV returns it.
BT709, UNSPECIFIED, FCC, BT470BG, BT601, SMPTE240M, BT2020 = 1, 2, 4, 5, 6, 7, 9
# The weights of red and of blue in luma; the weight of green is the rest to 1. FFmpeg, and so the
# usual frame extraction, reads an unspecified matrix as BT.601.
_LUMA_WEIGHTS = {
    BT709: (0.2126, 0.0722),
    UNSPECIFIED: (0.299, 0.114),
    FCC: (0.30, 0.11),
    BT470BG: (0.299, 0.114),
    BT601: (0.299, 0.114),
    SMPTE240M: (0.212, 0.087),
    BT2020: (0.2627, 0.0593),
}
MATRICES = frozenset(_LUMA_WEIGHTS)


def to_jpeg_colours(planes: list[np.ndarray], matrix: int, full_range: bool) -> list[np.ndarray]:
    """Converts the planes of a video frame to those of a JPEG (BT.601, full range).

    Args:
        planes: Y [H, W], Cb and Cr [ceil(H/2), ceil(W/2)], uint8.
        matrix: one of `MATRICES`.
        full_range: whether luma goes from 0 to 255; if not, from 16 to 235, and chroma from 16 to
            240.

    Returns:
        The three planes, of the same shapes.
    """
    if full_range and _LUMA_WEIGHTS[matrix] == _LUMA_WEIGHTS[BT601]:
        return planes
    y, cb, cr = planes
    conversion = _conversion(matrix, full_range)
    black = 0 if full_range else 16
    levels = np.rint(conversion[0, 0] * (np.arange(256) - black))
    luma = cv2.LUT(y, np.clip(levels, 0, 255).astype(np.uint8))
    from_cb, from_cr = conversion[0, 1:]
    if from_cb or from_cr:  # another matrix: luma also takes a little of both chromas
        shift = cv2.addWeighted(
            cb, from_cb, cr, from_cr, -128 * conversion[0, 1:].sum(), dtype=cv2.CV_32F
        )
        shift = cv2.resize(shift, y.shape[::-1], interpolation=cv2.INTER_LINEAR)
        luma = cv2.add(luma, np.rint(shift).astype(np.int16), dtype=cv2.CV_8U)
    chroma = [
        cv2.addWeighted(cb, row[1], cr, row[2], 128 * (1 - row[1:].sum())) for row in conversion[1:]
    ]
    return [luma, *chroma]


@cache
def _conversion(matrix: int, full_range: bool) -> np.ndarray:
    """The matrix [3, 3] from the video's (Y, Cb, Cr) to the JPEG's.

    Y is counted from black, Cb and Cr from grey. Grey stays grey: the first column of both chroma
    rows is 0.
    """
    scale = np.eye(3) if full_range else np.diag([255 / 219, 255 / 224, 255 / 224])
    to_rgb = np.linalg.inv(_from_rgb(*_LUMA_WEIGHTS[matrix]))
    conversion = _from_rgb(*_LUMA_WEIGHTS[BT601]) @ to_rgb @ scale
    conversion[np.abs(conversion) < 1e-9] = 0.0
    return conversion


def _from_rgb(red: float, blue: float) -> np.ndarray:
    """The matrix [3, 3] from (R, G, B) to (Y, Cb, Cr), given the luma weights of red and blue."""
    luma = np.array([red, 1 - red - blue, blue])
    return np.stack(
        [
            luma,
            (np.array([0, 0, 1]) - luma) / (2 - 2 * blue),
            (np.array([1, 0, 0]) - luma) / (2 - 2 * red),
        ]
    )
