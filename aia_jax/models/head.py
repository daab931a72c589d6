"""The head of the networks that classify frames and average their logits, as TSN does."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from aia_jax.shapes import Array, Float


def classify_frames(
    frames: Float[Array, "b t c"], num_classes: int, dropout: float, train: bool
) -> Float[Array, "b k"]:
    """Turns a vector of each frame into a clip's logits: dropout, a linear layer, the mean over T.

    Call it within a compact method. The linear layer is the caller's variable `head`.

    Args:
        frames: [B, T, C], float32 or float64, the dtype of the logits too.
        num_classes: K.
        dropout: its rate; it needs `rngs={"dropout": key}` in training.
        train: whether there is dropout.
    """
    dtype: Any = jnp.promote_types(frames.dtype, jnp.float32)
    # Linen names this module Dropout_0, and its random numbers follow from the name.
    frames = nn.Dropout(dropout, deterministic=not train)(frames)
    logits = nn.Dense(
        num_classes, dtype=dtype, kernel_init=nn.initializers.normal(0.001), name="head"
    )(frames)
    return logits.mean(1)
