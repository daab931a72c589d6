"""Pure functions on arrays; custom gradients live here."""

from aia_jax.ops.axis_attention.xla import gated, gated_pools
from aia_jax.ops.batch_norm import batch_normalized, batch_normalized_sigmoid
from aia_jax.ops.residual import residual_relu
from aia_jax.ops.stencil.stencil import stencil
from aia_jax.ops.temporal_shift import temporal_shift
from aia_jax.ops.triton.availability import use_gpu_kernels, without_gpu_kernels
from aia_jax.ops.triton.axis_attention import attend, shares
from aia_jax.ops.triton.gate import gate
from aia_jax.ops.xla_fusion import kept

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
