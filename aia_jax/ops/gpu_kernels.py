"""Whether kernels written for NVIDIA GPUs are used."""

import importlib.util
import os

import jax

from aia_jax.shapes import Array

SWITCH = "AIA_GPU_KERNELS"  # 0: XLA computes everything; 1: kernels are traced without a GPU too, to compile for one


def use_gpu_kernels(x: Array) -> bool:
    """Whether what is computed of `x` is traced with kernels: where JAX's default device is an NVIDIA GPU, for float32 and less.

    Each is traced with XLA's form beside it, which other devices get. Not so the other way round: to trace a kernel takes time, which
    machines without a GPU would spend for nothing.
    """
    wanted = os.environ.get(SWITCH) or str(int(jax.default_backend() == "gpu" and "cuda" in jax.devices()[0].client.platform_version))
    return wanted == "1" and x.dtype.itemsize <= 4 and x.size < 2**31 and _has_triton()


def _has_triton() -> bool:
    return importlib.util.find_spec("jax.experimental.pallas.triton") is not None
