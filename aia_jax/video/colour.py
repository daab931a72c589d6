"""From a video's colours to a JPEG's, without a detour over RGB.

Video is mostly Y'CbCr with a luma of 16 to 235 and one of several matrices; a JPEG file (JFIF) is
always BT.601 with the full range. Staying in Y'CbCr halves the work and keeps the half-size chroma
planes as they are.
"""

from functools import cache

import cv2
import numpy as np

BT709, UNSPECIFIED, FCC, BT470BG, BT601, SMPTE240M, BT2020 = (
    1,
    2,
    4,
    5,
    6,
    7,
    9,
)  # FFmpeg's AVColorSpace, as PyAV gives it
# The shares of red and of blue in luma. FFmpeg, and so the usual frame extraction, takes
# unspecified for BT.601.
_SHARES = {
    BT709: (0.2126, 0.0722),
    UNSPECIFIED: (0.299, 0.114),
    FCC: (0.30, 0.11),
    BT470BG: (0.299, 0.114),
    BT601: (0.299, 0.114),
    SMPTE240M: (0.212, 0.087),
    BT2020: (0.2627, 0.0593),
}
MATRICES = frozenset(_SHARES)


def to_jpeg_colours(planes: list[np.ndarray], matrix: int, full_range: bool) -> list[np.ndarray]:
    """Turns the planes of a video frame into those of a JPEG (BT.601, full range).

    Args:
        planes: Y [H, W], Cb and Cr [ceil(H/2), ceil(W/2)], uint8.
        matrix: one of `MATRICES`.
        full_range: whether luma goes from 0 to 255; if not, from 16 to 235, and chroma from 16 to
            240.

    Returns:
        The three planes, of the same shapes.
    """
    if full_range and _SHARES[matrix] == _SHARES[BT601]:
        return planes
    y, cb, cr = planes
    turn = _turn(matrix, full_range)
    luma = cv2.LUT(
        y,
        np.clip(np.rint(turn[0, 0] * (np.arange(256) - (0 if full_range else 16))), 0, 255).astype(
            np.uint8
        ),
    )
    if turn[0, 1:].any():  # another matrix: luma also takes a little of both chromas
        shift = cv2.addWeighted(
            cb, turn[0, 1], cr, turn[0, 2], -128 * turn[0, 1:].sum(), dtype=cv2.CV_32F
        )
        shift = cv2.resize(shift, y.shape[::-1], interpolation=cv2.INTER_LINEAR)
        luma = cv2.add(luma, np.rint(shift).astype(np.int16), dtype=cv2.CV_8U)
    chroma = [
        cv2.addWeighted(cb, row[1], cr, row[2], 128 * (1 - row[1:].sum())) for row in turn[1:]
    ]
    return [luma, *chroma]


@cache
def _turn(matrix: int, full_range: bool) -> np.ndarray:
    """[3, 3]: (Y, Cb, Cr) of the video, counted from black and from grey, to the JPEG's. Grey stays
    grey: no chroma takes from luma.
    """
    scale = np.eye(3) if full_range else np.diag([255 / 219, 255 / 224, 255 / 224])
    turn = _from_rgb(*_SHARES[BT601]) @ np.linalg.inv(_from_rgb(*_SHARES[matrix])) @ scale
    turn[np.abs(turn) < 1e-9] = 0.0
    return turn


def _from_rgb(red: float, blue: float) -> np.ndarray:
    luma = np.array([red, 1 - red - blue, blue])
    return np.stack(
        [
            luma,
            (np.array([0, 0, 1]) - luma) / (2 - 2 * blue),
            (np.array([1, 0, 0]) - luma) / (2 - 2 * red),
        ]
    )
