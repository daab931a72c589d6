"""Clips with smooth areas and edges of every colour."""

import cv2
import numpy as np


def coarse_clip(frames: int = 3, height: int = 40, width: int = 56) -> np.ndarray:
    """uint8 [frames, height, width, 3]: patches of about 8 pixels of random colours, enlarged."""
    rng = np.random.default_rng(0)
    patches = rng.integers(0, 256, (frames, height // 8, width // 8, 3), np.uint8)
    return np.stack([cv2.resize(frame, (width, height)) for frame in patches])
