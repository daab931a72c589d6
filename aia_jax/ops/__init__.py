"""Pure functions on arrays; custom gradients live here."""

from aia_jax.ops.pooled_stencil import stencil
from aia_jax.ops.pooling import gated, gated_pools
from aia_jax.ops.shift import temporal_shift

__all__ = ["gated", "gated_pools", "stencil", "temporal_shift"]
