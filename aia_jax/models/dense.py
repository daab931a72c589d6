"""Flax's linear layers, whose kernel's gradient the devices of a mesh sum in float32."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax

from aia_jax.models.convolution import promote, round_output
from aia_jax.ops.convolution import convolve
from aia_jax.shapes import Array


def _multiply(x: Array, kernel: Array, dimension_numbers: Any, **options: Any) -> Array:
    product = functools.partial(jax.lax.dot_general, dimension_numbers=dimension_numbers, **options)
    if kernel.dtype == x.dtype:
        return product(x, kernel)
    return convolve(x, kernel, product)  # a linear layer is a convolution of one position


def _dot_general() -> Callable[..., Array]:
    return _multiply


class DenseGeneral(nn.DenseGeneral):
    """Flax's DenseGeneral over rows [n, …, C]; on a mesh it keeps bfloat16's gradients accurate.

    In float32, on one device and in evaluation it is Flax's own. Variables are those of
    `nn.DenseGeneral`. With a number for `features` it is a `nn.Dense`.
    """

    promote_dtype: Callable[..., Any] = promote
    dot_general_cls: Callable[..., Any] | None = _dot_general

    @nn.nowrap  # or what counts the calls of modules would count two
    def __call__(self, x: Array) -> Array:
        return round_output(super().__call__(x), self.dtype)
