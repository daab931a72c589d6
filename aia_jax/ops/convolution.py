"""Convolutions in half precision whose kernel's gradient devices sum in float32."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from aia_jax.ops.frames import ROWS
from aia_jax.shapes import Array, Float
from aia_jax.sharding import AXES, mesh_of_trace

_WHOLE = PartitionSpec()


def needs_float32_sums(dtype: Any) -> bool:
    """Whether a convolution in `dtype` needs `convolve` in this trace: half precision on a mesh."""
    mesh = mesh_of_trace()
    return mesh is not None and mesh.size > 1 and jnp.dtype(dtype).itemsize < 4


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolve(
    x: Float[Array, "n ... i"],
    kernel: Float[Array, "... i2 o"],
    convolution: Callable[[Array, Array], Array],
) -> Float[Array, "n ... o"]:
    """Convolves in x's dtype with a float32 kernel on a mesh (`needs_float32_sums`).

    A kernel that is cast to x's dtype gets a gradient in this dtype. XLA would also add up the
    devices' parts of the gradient in it, and round every addition. Here each device casts its part
    to float32 first. That moves four bytes a weight instead of two.

    Args:
        x: rows in the order of `fold_frames`; any number of spatial axes.
        kernel: float32.
        convolution: convolves x with a kernel of its dtype.
    """
    return convolution(x, kernel.astype(x.dtype))


def _forward(
    x: Array, kernel: Array, convolution: Callable[[Array, Array], Array]
) -> tuple[Array, tuple[Array, Array]]:
    return convolve(x, kernel, convolution), (x, kernel)


def _backward(
    convolution: Callable[[Array, Array], Array], saved: tuple[Array, Array], dy: Array
) -> tuple[Array, Array]:
    x, kernel = saved

    def kernel_gradient(x: Array, kernel: Array, dy: Array) -> Array:
        """From the rows of a device: its part of the gradient, then the sum of all parts."""
        _, pull_back = jax.vjp(lambda kernel: convolution(x, kernel.astype(x.dtype)), kernel)
        return jax.lax.psum(pull_back(dy)[0], AXES)

    sum_over_devices = jax.shard_map(
        kernel_gradient, in_specs=(ROWS, _WHOLE, ROWS), out_specs=_WHOLE, check_vma=False
    )
    _, pull_back = jax.vjp(lambda x: convolution(x, kernel.astype(x.dtype)), x)
    return pull_back(dy)[0], sum_over_devices(x, kernel, dy)


convolve.defvjp(_forward, _backward)
