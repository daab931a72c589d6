"""Whether kernels written for NVIDIA GPUs are used, and Pallas' part for them."""

import contextlib
import contextvars
import os
from collections.abc import Iterator

import jax

from aia_jax.errors import UserError
from aia_jax.shapes import Array

try:
    from jax.experimental.pallas import triton
except ImportError:  # a JAX without it: XLA computes everything
    triton = None

# 0: XLA computes everything; 1: kernels are traced without a GPU too, to compile for one
SWITCH = "AIA_GPU_KERNELS"
OLDEST = 8.0  # compute capability: Ampere

_wanted_here = contextvars.ContextVar("wanted_here", default=True)


def use_gpu_kernels(x: Array) -> bool:
    """Whether what is computed of `x` is traced with kernels: where JAX's default device is an
    NVIDIA GPU, for float32 and less.

    Each is traced with XLA's form beside it, which other devices get. Not so the other way round:
    to trace a kernel takes time, which machines without a GPU would spend for nothing.

    Raises:
        UserError: the environment variable `SWITCH` is neither 0 nor 1 nor empty.
    """
    if not _wanted_here.get():
        return False
    wanted = os.environ.get(SWITCH, "")
    if wanted not in ("", "0", "1"):
        raise UserError(
            f"environment variable {SWITCH} is {wanted!r}; 0 leaves all to XLA, 1 uses kernels "
            "without a GPU too, or unset it"
        )
    return (
        (wanted == "1" or (wanted != "0" and _on_nvidia()))
        and x.dtype.itemsize <= 4
        and x.size < 2**31
        and triton is not None
    )


@contextlib.contextmanager
def without_gpu_kernels() -> Iterator[None]:
    """What is traced within is XLA's operations alone, of which JAX promises that later versions
    can run them.
    """
    token = _wanted_here.set(False)
    try:
        yield
    finally:
        _wanted_here.reset(token)


def _on_nvidia() -> bool:
    if jax.default_backend() != "gpu":
        return False
    device = jax.devices()[0]
    return "cuda" in device.client.platform_version and float(device.compute_capability) >= OLDEST
