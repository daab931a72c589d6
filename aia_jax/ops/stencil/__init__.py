"""The stencil: a 3x3x3 convolution from a pooled pair of planes to one plane.

A convolution from two channels to one leaves matrix units and convolution libraries idle (7 times
the cost of the whole plain network on a CPU: docs/experiments.md, "Stencil: 3-D `lax.conv`"). The
planes are small after pooling, so as 54 shifted multiply-adds it is one pass of vector arithmetic.
Which form computes it:

| device | evaluation | training |
|---|---|---|
| CPU | taps | convolution (`convolution.py`) for planes of few rows, else taps |
| NVIDIA GPU with Triton kernels | Triton (`ops/triton/`) | Triton |
| other GPUs, TPU | taps (`taps.py`) | taps |
| any, where a mesh splits the frames of clips | taps (`on_mesh.py`) | taps |
"""

import functools
from collections.abc import Callable
from typing import Any

import jax

from aia_jax.ops.stencil.convolution import (
    MAX_ROWS,
    correlate_by_convolution,
    kernel_gradient_by_convolution,
)
from aia_jax.ops.stencil.taps import (
    correlate_by_taps,
    flip_kernel,
    stencil_by_taps,
    stencil_gradient_by_taps,
)
from aia_jax.ops.triton import stencil as triton
from aia_jax.ops.triton import use_gpu_kernels
from aia_jax.ops.xla_fusion import at_least_float32
from aia_jax.shapes import Array, Float

__all__ = ["stencil"]


@jax.custom_vjp
def stencil(
    maximum: Float[Array, "b i j k"], mean: Float[Array, "b i j k"], kernel: Float[Array, "3 3 3 2"]
) -> Float[Array, "b i j k"]:
    """Correlates the pair (maximum, mean) with one kernel (paper, Eqs. 5-8: `3DConv`).

    Beyond the edges planes are zero. There is a gradient for all three operands.

    Args:
        maximum, mean: pooled planes of one dtype.
        kernel: its first three axes run along i, j and k, the last over (maximum, mean); float32,
            or float64 for float64 planes.

    Returns:
        The correlation, in the kernel's dtype.
    """
    return jax.lax.platform_dependent(
        maximum, mean, kernel, default=stencil_by_taps, **_if_triton(maximum, triton.stencil)
    )


def _forward(
    maximum: Array, mean: Array, kernel: Array
) -> tuple[Array, tuple[Array, Array, Array]]:
    return _stencil_in_training(maximum, mean, kernel), (maximum, mean, kernel)


@jax.jit
def _stencil_in_training(maximum: Array, mean: Array, kernel: Array) -> Array:
    def on_cpus(maximum: Array, mean: Array, kernel: Array) -> Array:
        planes = at_least_float32(maximum), at_least_float32(mean)
        return _correlate_on_cpus(planes, kernel[..., None])[0]

    return jax.lax.platform_dependent(
        maximum,
        mean,
        kernel,
        cpu=on_cpus,
        default=stencil_by_taps,
        **_if_triton(maximum, triton.stencil),
    )


@jax.jit
def _backward(saved: tuple[Array, Array, Array], dy: Array) -> tuple[Array, Array, Array]:
    def in_pair_dtype(gradient: Callable[..., Any], *operands: Array) -> tuple[Array, Array, Array]:
        dmaximum, dmean, dkernel = gradient(*map(at_least_float32, operands))
        return dmaximum.astype(saved[0].dtype), dmean.astype(saved[1].dtype), dkernel

    forms = {
        "cpu": functools.partial(in_pair_dtype, _gradient_on_cpus),
        "default": functools.partial(in_pair_dtype, stencil_gradient_by_taps),
    }
    return jax.lax.platform_dependent(
        dy, *saved, **forms, **_if_triton(dy, triton.stencil_gradient)
    )


stencil.defvjp(_forward, _backward)


def _correlate_on_cpus(planes: tuple[Array, ...], kernels: Array) -> tuple[Array, ...]:
    """Does what `correlate_by_taps` does, for training on CPUs.

    The taps of all units and of their gradients would be half of a training step's compile time
    (docs/experiments.md, "Stencil: the 54 unrolled taps in training"). Planes of more than
    `MAX_ROWS` rows keep the taps, because a convolution takes three times as long there: planes
    pooled over T, and all planes of clips with more than eight frames. Evaluation keeps the taps,
    too: it compiles fast with them, and an infinity stays in its own row.
    """
    few_rows = planes[0].shape[1] <= MAX_ROWS
    return (correlate_by_convolution if few_rows else correlate_by_taps)(planes, kernels)


def _gradient_on_cpus(
    dy: Array, maximum: Array, mean: Array, kernel: Array
) -> tuple[Array, Array, Array]:
    dmaximum, dmean = _correlate_on_cpus((dy,), flip_kernel(kernel))
    return dmaximum, dmean, kernel_gradient_by_convolution(dy, maximum, mean)


def _if_triton(plane: Array, form: Callable[..., Any]) -> dict[str, Callable[..., Any]]:
    """The entry of `platform_dependent` for `form`, if Triton kernels are used for `plane`."""
    return {"cuda": form} if use_gpu_kernels(plane) else {}
