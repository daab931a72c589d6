"""Flax's convolution of frames and of clips; a mesh sums the kernels' gradients in float32."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
from flax.linen.dtypes import promote_dtype

from aia_jax.ops.clip_convolution import convolve_clips
from aia_jax.ops.convolution import convolve, needs_float32_sums
from aia_jax.shapes import Array


def promote(x: Array, kernel: Array, bias: Array | None, dtype: Any) -> tuple[Any, ...]:
    """Casts as Flax does, but leaves kernel and bias in float32 where their gradients must be."""
    cast = promote_dtype(x, kernel, bias, dtype=dtype)
    return (cast[0], kernel, bias) if needs_float32_sums(cast[0].dtype) else tuple(cast)


def round_output(y: Array, dtype: Any) -> Array:
    """A layer's output in its dtype, which a bias in float32 has widened; None: as it is."""
    return y if dtype is None else y.astype(dtype)


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

    promote_dtype: Callable[..., Any] = promote
    conv_general_dilated: Callable[..., Any] | None = _convolve

    @nn.nowrap  # or what counts the calls of modules would count two
    def __call__(self, x: Array) -> Array:
        return round_output(super().__call__(x), self.dtype)


def _convolve_clips(x: Array, kernel: Array, strides: Any, padding: Any, **_: Any) -> Array:
    return convolve_clips(x, kernel, strides[1])


class ClipConv(nn.Conv):
    """Flax's Conv over clips [B, T, H, W, C] with kernels of three frames, (3, kh, kw).

    Strides are (1, s, s), the padding is that of `convolve_clips`. On a mesh it does what `Conv`
    does. Variables are those of `nn.Conv`.
    """

    promote_dtype: Callable[..., Any] = promote
    conv_general_dilated: Callable[..., Any] | None = _convolve_clips

    @nn.nowrap  # or what counts the calls of modules would count two
    def __call__(self, x: Array) -> Array:
        return round_output(super().__call__(x), self.dtype)
