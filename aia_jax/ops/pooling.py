"""Global pooling along one axis: the contexts of AIA (paper, Eqs. 1-4)."""

import functools

import jax
import jax.numpy as jnp

from aia_jax.ops.apart import apart
from aia_jax.shapes import Array, Float


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def axis_pool(x: Float[Array, "b t h w c"], axis: int) -> tuple[Float[Array, "b i j k"], Float[Array, "b i j k"]]:
    """Pools one axis of a video feature to its maximum and its mean.

    Args:
        x: feature, any float dtype.
        axis: 1, 2, 3 or 4 for T, H, W or C.

    Returns:
        The maximum and the mean over `axis`, that axis removed, in float32 (float64 for float64). The reference stacks them in this
        order; the paper prints the other.
    """
    return _pool(x, axis)


@functools.partial(jax.jit, static_argnums=1)
def _pool(x: Array, axis: int) -> tuple[Array, Array]:
    if axis == 1:
        # What pads the planes must not read x again, with a bounds check for every frame.
        return apart(x[0, 0, 0, 0, 0], _pool_frames, lambda v: _reduce(v, 1), x)
    return _reduce(x, axis)


def _reduce(x: Array, axis: int) -> tuple[Array, Array]:
    dtype = jnp.promote_types(x.dtype, jnp.float32)
    return x.max(axis).astype(dtype), x.astype(dtype).sum(axis) / x.shape[axis]


def _pool_frames(x: Array) -> tuple[Array, Array]:
    """`_reduce(x, 1)`: XLA's CPU backend walks an outer axis with a stride of a whole frame; slices of frames stream instead."""
    dtype = jnp.promote_types(x.dtype, jnp.float32)
    frames = [x[:, t] for t in range(x.shape[1])]
    maximum = functools.reduce(jnp.maximum, frames)
    return maximum.astype(dtype), functools.reduce(jnp.add, [frame.astype(dtype) for frame in frames]) / x.shape[1]


def _pool_forward(x: Array, axis: int) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    pooled = _pool(x, axis)
    return pooled, (x, pooled[0])


def _pool_backward(axis: int, saved: tuple[Array, Array], gradients: tuple[Array, Array]) -> tuple[Array]:
    x, maximum = saved
    of_maximum, of_mean = gradients
    # Equal maxima share the gradient, as JAX's own reduce-max does.
    is_maximum = x == jnp.expand_dims(maximum.astype(x.dtype), axis)
    share = of_maximum / is_maximum.sum(axis, dtype=of_maximum.dtype)
    gradient = jnp.where(is_maximum, jnp.expand_dims(share, axis), 0) + jnp.expand_dims(of_mean / x.shape[axis], axis)
    return (gradient.astype(x.dtype),)


axis_pool.defvjp(_pool_forward, _pool_backward)
