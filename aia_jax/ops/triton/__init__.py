"""Axis attention in Pallas kernels for NVIDIA GPUs; README.md here shows what lies where.

The rest of the package uses `is_used`, `axis_attention.axis_attention`, `stencil.stencil` and
`stencil.stencil_gradient`. Without this folder XLA computes everything.
"""

from aia_jax.ops.triton.availability import is_used, use_gpu_kernels, without_gpu_kernels

__all__ = ["is_used", "use_gpu_kernels", "without_gpu_kernels"]
