"""Makes the weights and clips that the golden outputs were computed on. NumPy only."""

import zlib

import numpy as np

SEED = 20261120


def tensor(key: str, shape: tuple[int, ...]) -> np.ndarray:
    """The value of one state-dict entry, from its key (without a `module.` prefix) and shape."""
    rng = np.random.default_rng([SEED, zlib.crc32(key.encode())])
    leaf = key.rsplit(".", 1)[-1]
    if leaf == "num_batches_tracked":
        return np.array(0)
    if leaf == "running_mean":
        return rng.normal(0, 0.1, shape).astype("f4")
    if leaf == "running_var":
        return rng.uniform(0.5, 1.5, shape).astype("f4")
    # BatchNorm scale; small on the residual branch keeps activations tame.
    if len(shape) == 1 and leaf == "weight":
        low, high = (0.2, 0.4) if ".bn3." in key else (0.5, 1.5)
        return rng.uniform(low, high, shape).astype("f4")
    if leaf == "bias":
        return rng.normal(0, 0.1, shape).astype("f4")
    if len(shape) == 5:  # the 3x3x3 attention convolutions
        return rng.normal(0, 0.3, shape).astype("f4")
    return rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape).astype("f4")


def clips(b: int, t: int, h: int, w: int) -> np.ndarray:
    """Normalised clips, float32 [B, T, H, W, 3]."""
    return np.random.default_rng([SEED, b, t, h, w]).normal(0, 1, (b, t, h, w, 3)).astype("f4")


def h2cn_clips(b: int, t: int, h: int, w: int) -> np.ndarray:
    """Normalised five-frame segments, float32 [B, T, 5, H, W, 3]."""
    return np.random.default_rng([SEED, 8]).normal(0, 1, (b, t, 5, h, w, 3)).astype("f4")


def vit_tensor(key: str, shape: tuple[int, ...]) -> np.ndarray:
    """The value of one array of a ViT, TokShift or MSCA, from its key and shape."""
    rng = np.random.default_rng([SEED, zlib.crc32(key.encode())])
    if "norm" in key and key.endswith("weight"):
        return rng.uniform(0.5, 1.5, shape).astype("f4")
    if len(shape) >= 2 and "position" not in key and "cls" not in key:
        return rng.normal(0, np.sqrt(1 / np.prod(shape[1:])), shape).astype("f4")
    return rng.normal(0, 0.1, shape).astype("f4")
