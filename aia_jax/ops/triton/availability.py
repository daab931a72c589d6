"""Decides whether Triton kernels are used, and imports Pallas' API for them."""

import contextlib
import contextvars
import os
from collections.abc import Iterator

import jax

from aia_jax.errors import UserError
from aia_jax.ops.frames import time_parts
from aia_jax.shapes import Array

try:
    from jax.experimental.pallas import triton
except ImportError:  # a JAX that has removed the Triton backend: XLA computes everything
    triton = None

# 0: XLA computes everything. 1: kernels are used on machines without a GPU too, to compile for one.
ENVIRONMENT_VARIABLE = "AIA_GPU_KERNELS"
MIN_COMPUTE_CAPABILITY = 8.0  # Ampere
_MAX_CUDNN_CHANNELS = 128  # of a head; GPUs before Hopper take no more
MAX_FRAMES = 32  # of a clip: a program holds all frames of a position in registers

_allowed = contextvars.ContextVar("_allowed", default=True)


def is_used(x: Array) -> bool:
    """Returns whether axis attention of the feature `x` [B, T, H, W, C] runs in kernels.

    Raises:
        UserError: the environment variable `AIA_GPU_KERNELS` is neither 0 nor 1 nor empty.
    """
    return use_gpu_kernels(x) and x.shape[1] <= MAX_FRAMES


def use_gpu_kernels(x: Array) -> bool:
    """Returns whether operations on `x` are traced with kernels for NVIDIA GPUs.

    Kernels are used where JAX's default device is such a GPU, `x` has at most 32 bits an element
    and no mesh splits the frames of a clip, which a kernel needs all. A traced kernel always has
    XLA's form beside it, and lowering for another device takes that form. Machines without a GPU
    trace XLA's form alone, because tracing kernels takes time.

    Raises:
        UserError: the environment variable `AIA_GPU_KERNELS` is neither 0 nor 1 nor empty.
    """
    if not _allowed.get() or time_parts() > 1:
        return False
    value = _environment_value()
    return (
        (value == "1" or (value != "0" and _default_device_is_supported()))
        and x.dtype.itemsize <= 4
        and x.size < 2**31  # offsets are int32
        and triton is not None
    )


def use_cudnn_attention(query: Array) -> bool:
    """Returns whether attention of these queries [n, s, h, d] is traced with cuDNN's kernels.

    They are used where JAX's default device is an NVIDIA GPU, in half precision, and with heads of
    up to 128 channels in multiples of 8. They need the machine's cuDNN already at tracing, so the
    value 1 of `AIA_GPU_KERNELS` does not add them on a machine without a GPU.

    Raises:
        UserError: as `use_gpu_kernels`.
    """
    if not _allowed.get() or _environment_value() == "0" or not _default_device_is_supported():
        return False
    channels = query.shape[-1]
    return query.dtype.itemsize == 2 and channels % 8 == 0 and channels <= _MAX_CUDNN_CHANNELS


@contextlib.contextmanager
def without_gpu_kernels() -> Iterator[None]:
    """Traces everything within in XLA's operations alone.

    Exported programs need this: JAX promises that its later versions run XLA's operations, and
    promises nothing of kernels.
    """
    token = _allowed.set(False)
    try:
        yield
    finally:
        _allowed.reset(token)


def _environment_value() -> str:
    value = os.environ.get(ENVIRONMENT_VARIABLE, "")
    if value not in ("", "0", "1"):
        raise UserError(
            f"environment variable {ENVIRONMENT_VARIABLE} is {value!r}; 0 leaves all to XLA, 1 "
            "uses kernels without a GPU too, or unset it"
        )
    return value


def _default_device_is_supported() -> bool:
    if jax.default_backend() != "gpu":
        return False
    device = jax.devices()[0]
    on_cuda = "cuda" in device.client.platform_version
    return on_cuda and float(device.compute_capability) >= MIN_COMPUTE_CAPABILITY
