"""The head of the networks that classify frames and average their logits, as TSN does."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from aia_jax.ops.xla_fusion import at_least_float32
from aia_jax.shapes import Array, Float


def pool_maps(maps: Float[Array, "b t h w c"]) -> Float[Array, "b t c"]:
    """Averages the map of each frame over H and W, in float32 (float64 for float64)."""
    return at_least_float32(maps).mean((2, 3))


_small_normal = nn.initializers.normal(0.001)  # TSN's


def classify_frames(
    frames: Float[Array, "b t c"],
    num_classes: int,
    dropout: float,
    train: bool,
    kernel_init: nn.initializers.Initializer = _small_normal,
) -> Float[Array, "b k"]:
    """Turns a vector of each frame into a clip's logits: dropout, a linear layer, the mean over T.

    Call it within a compact method. The linear layer is the caller's variable `head`.

    Args:
        frames: [B, T, C], float32 or float64, the dtype of the logits too.
        num_classes: K.
        dropout: its rate; it needs `rngs={"dropout": key}` in training.
        train: whether there is dropout.
        kernel_init: initial values of the linear layer's kernel; its bias starts as zeros.
    """
    dtype: Any = jnp.promote_types(frames.dtype, jnp.float32)
    # Linen names this module Dropout_0, and its random numbers follow from the name.
    frames = nn.Dropout(dropout, deterministic=not train)(frames)
    logits = nn.Dense(num_classes, dtype=dtype, kernel_init=kernel_init, name="head")(frames)
    return logits.mean(1)
