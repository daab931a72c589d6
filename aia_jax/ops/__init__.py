"""Pure functions on arrays; custom gradients live here."""

from aia_jax.ops.apart import kept
from aia_jax.ops.gating import gated, gated_pools
from aia_jax.ops.gpu_attention import attend, shares
from aia_jax.ops.gpu_gate import gate
from aia_jax.ops.gpu_kernels import use_gpu_kernels, without_gpu_kernels
from aia_jax.ops.normalization import batch_normalized, batch_normalized_sigmoid
from aia_jax.ops.pooled_stencil import stencil
from aia_jax.ops.residual import residual_relu
from aia_jax.ops.shift import temporal_shift

__all__ = [
    "attend",
    "batch_normalized",
    "batch_normalized_sigmoid",
    "gate",
    "gated",
    "gated_pools",
    "kept",
    "residual_relu",
    "shares",
    "stencil",
    "temporal_shift",
    "use_gpu_kernels",
    "without_gpu_kernels",
]
