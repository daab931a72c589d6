"""Pure functions on arrays; custom gradients live here."""

from aia_jax.ops.pooled_stencil import stencil
from aia_jax.ops.pooling import axis_pool
from aia_jax.ops.shift import temporal_shift

__all__ = ["axis_pool", "stencil", "temporal_shift"]
