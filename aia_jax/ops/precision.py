"""The precision of sums and statistics."""

import jax.numpy as jnp

from aia_jax.shapes import Array


def wide(x: Array) -> Array:
    """x in float32, or in float64 if it has that: what half-precision features are summed and compared in."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))
