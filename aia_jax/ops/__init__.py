"""Pure functions on arrays; operations whose gradient is not JAX's own define it here.

A clip's feature is [B, T, H, W, C] everywhere. Where an operation has several forms (XLA's on CPUs,
XLA's elsewhere, Triton kernels), one function chooses among them and its callers do not know which.
"""

from aia_jax.ops.attention import attention
from aia_jax.ops.axis_attention import axis_attention
from aia_jax.ops.batch_norm import (
    normalize_batch,
    normalize_batch_sigmoid,
    normalize_by_statistics,
)
from aia_jax.ops.frames import fold_frames, unfold_frames
from aia_jax.ops.residual import residual_relu
from aia_jax.ops.stencil import stencil
from aia_jax.ops.temporal_shift import shift_heads, temporal_shift
from aia_jax.ops.triton.availability import without_gpu_kernels
from aia_jax.ops.xla_fusion import forward_barrier

__all__ = [
    "attention",
    "axis_attention",
    "fold_frames",
    "forward_barrier",
    "normalize_batch",
    "normalize_batch_sigmoid",
    "normalize_by_statistics",
    "residual_relu",
    "shift_heads",
    "stencil",
    "temporal_shift",
    "unfold_frames",
    "without_gpu_kernels",
]
