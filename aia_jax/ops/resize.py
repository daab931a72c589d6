"""Resizing of feature maps, as PyTorch's networks do it between branches of several sizes."""

import jax.numpy as jnp
import numpy as np

from aia_jax.shapes import Array, Float


def resize_nearest(
    x: Float[Array, "*n h w c"], height: int, width: int
) -> Float[Array, "*n h2 w2 c"]:
    """Resizes maps by repeating pixels: torch's `interpolate` in its default mode, "nearest".

    Row i of the result is row ⌊i · h / height⌋ of x, and columns likewise.
    """
    for axis, size in ((x.ndim - 3, height), (x.ndim - 2, width)):
        found = x.shape[axis]
        if size % found == 0:
            x = jnp.repeat(x, size // found, axis)  # a broadcast, where indices would be a gather
        else:
            x = jnp.take(x, np.arange(size) * found // size, axis)
    return x
