"""The precision of sums and statistics, and of what is kept of them."""

import jax
import jax.numpy as jnp

from aia_jax.shapes import Array


def wide(x: Array) -> Array:
    """x in float32, or in float64 if it has that: what half-precision features are summed and compared in."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def rounded(x: Array, dtype: jnp.dtype) -> Array:
    """x as `dtype`, rounded to it in every reader.

    XLA may leave out a rounding to half precision where it writes the cast into its reader, and keep it where it does not. What is compared
    with its maximum in another pass must be the same number in both.
    """
    if x.dtype == dtype:
        return x
    info = jnp.finfo(dtype)
    return jax.lax.reduce_precision(x, info.nexp, info.nmant).astype(dtype)
