"""What a network makes of clips of pixels: functions for `Classifier` to compile.

Each takes variables and clips uint8 [B, T, H, W, 3], and normalises the pixels by itself.
"""

from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp

from aia_jax.models.preprocess import preprocessing
from aia_jax.shapes import Array, PyTree


def clip_logits(model: nn.Module) -> Callable[[PyTree, Array], Array]:
    """Gives the logits, float32 [B, K]."""
    preprocess = preprocessing(model)
    return lambda variables, clips: model.apply(variables, preprocess(clips), train=False)


def frame_features(model: nn.Module) -> Callable[[PyTree, Array], Array]:
    """Gives what the head sees of each frame or segment, float32 [B, T, C]."""
    preprocess = preprocessing(model)

    def apply(variables: PyTree, clips: Array) -> Array:
        vectors = model.apply(variables, preprocess(clips), train=False, method="embed")
        return vectors.astype(jnp.float32)

    return apply


def mean_features(model: nn.Module) -> Callable[[PyTree, Array], Array]:
    """Gives the mean over frames of what the head sees, float32 [B, C]."""
    preprocess = preprocessing(model)

    def apply(variables: PyTree, clips: Array) -> Array:
        vectors = model.apply(variables, preprocess(clips), train=False, method="embed")
        return vectors.mean(1, dtype=jnp.float32)

    return apply
