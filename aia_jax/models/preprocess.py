"""From pixels to what a network takes; the mean and the standard deviation are the network's."""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from aia_jax.shapes import Array

IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], np.float32)  # of RGB on the scale from 0 to 1
IMAGENET_STD = np.array([0.229, 0.224, 0.225], np.float32)


def normalize(
    pixels: Array, mean: np.ndarray = IMAGENET_MEAN, std: np.ndarray = IMAGENET_STD
) -> Array:
    """Normalises uint8 RGB [..., 3] to float32 by mean and standard deviation on the 0…1 scale."""
    return (pixels.astype(jnp.float32) / 255 - mean) / std


def preprocessing(model: nn.Module) -> Callable[[Array], Array]:
    """What turns a batch's pixels, uint8 [B, T, H, W, 3], into the clips that `model` takes."""
    return functools.partial(normalize, mean=model.mean, std=model.std)
