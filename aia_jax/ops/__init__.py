"""Pure functions on arrays; custom gradients live here."""

from aia_jax.ops.axis_pool import axis_pool
from aia_jax.ops.stencil import stencil
from aia_jax.ops.temporal_shift import temporal_shift

__all__ = ["axis_pool", "stencil", "temporal_shift"]
