"""Flax's convolution, whose kernel's gradient the devices of a mesh sum in float32."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
from flax.linen.dtypes import promote_dtype

from aia_jax.ops.convolution import convolve, needs_float32_sums
from aia_jax.shapes import Array


def _promote(x: Array, kernel: Array, bias: Array | None, dtype: Any) -> tuple[Any, ...]:
    """Casts as Flax does, but leaves the kernel that `convolve` takes in float32."""
    x, cast_kernel, bias = promote_dtype(x, kernel, bias, dtype=dtype)
    return x, kernel if needs_float32_sums(x.dtype) else cast_kernel, bias


def _convolve(x: Array, kernel: Array, strides: Any, padding: Any, **options: Any) -> Array:
    convolution = functools.partial(
        jax.lax.conv_general_dilated, window_strides=strides, padding=padding, **options
    )
    if kernel.dtype == x.dtype:
        return convolution(x, kernel)
    return convolve(x, kernel, convolution)


class Conv(nn.Conv):
    """Flax's Conv over rows [n, …, C]; on a mesh it keeps the gradients of bfloat16 accurate.

    In float32, on one device and in evaluation it is Flax's own. Variables are those of `nn.Conv`.
    """

    promote_dtype: Callable[..., Any] = _promote
    conv_general_dilated: Callable[..., Any] | None = _convolve
