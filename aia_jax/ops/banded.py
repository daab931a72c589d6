"""The stencil as one convolution between groups of rows."""

import jax
import jax.numpy as jnp

from aia_jax.shapes import Array, Float

# Rows along the first axis that act as channels together. Convolution libraries work on multiples of eight: 28 rows in four groups of
# seven take twice as long as when they are filled up to four groups of eight.
GROUP = 8


def banded_stencil(
    maximum: Float[Array, "b i j k"], mean: Float[Array, "b i j k"], kernel: Float[Array, "3 3 3 2"]
) -> Float[Array, "b i j k"]:
    """What `stencil` computes of finite values, for a library of convolutions.

    Eight neighbouring rows along i are the outputs' channels, these with one more on either side, of both planes, the inputs'; the taps
    along i are a band in the kernel, [3, 3, 20, 8], the rest of which is zero. That is three times the multiplications, but a handful of
    operations where the taps are hundreds, also in the gradient, which is autodiff's. An infinity or NaN spreads to the rows that share its
    inputs, where zero times it is NaN.
    """
    b, i, j, k = maximum.shape
    groups = -(-i // GROUP)
    pair = jnp.pad(jnp.stack([maximum, mean], 1), ((0, 0), (0, 0), (1, 1 + groups * GROUP - i), (0, 0), (0, 0)))
    rows = jnp.stack([pair[:, :, g * GROUP : (g + 1) * GROUP + 2] for g in range(groups)], 1)  # [b, groups, 2, 10, j, k]
    sums = jax.lax.conv_general_dilated(
        rows.reshape(b * groups, -1, j, k).transpose(0, 2, 3, 1),
        _band(kernel),
        (1, 1),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision="highest",
    )
    return sums.transpose(0, 3, 1, 2).reshape(b, -1, j, k)[:, :i]


def _band(kernel: Array) -> Array:
    """[3, 3, 20, 8]: the weight of tap a from row r + a of either plane to row r, zero elsewhere."""
    taps = jnp.pad(kernel.transpose(1, 2, 3, 0), ((0, 0), (0, 0), (0, 0), (0, GROUP)))  # [3, 3, 2, 11]
    # Eleven numbers again and again, read in lines of ten: every line finds them one place further.
    lines = jnp.broadcast_to(taps[..., None, :], (3, 3, 2, GROUP, GROUP + 3)).reshape(3, 3, 2, -1)
    lines = lines[..., : GROUP * (GROUP + 2)].reshape(3, 3, 2, GROUP, GROUP + 2)
    return lines.transpose(0, 1, 2, 4, 3).reshape(3, 3, -1, GROUP)
