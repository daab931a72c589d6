"""Global pooling along one axis: the contexts of AIA (paper, Eqs. 1-4)."""

import functools

import jax
import jax.numpy as jnp

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
    dtype = jnp.promote_types(x.dtype, jnp.float32)
    size = x.shape[axis]
    if axis == 1:
        # XLA's CPU backend walks a reduction over an outer axis with a stride of a whole frame; slices of frames stream instead.
        frames = [x[:, t] for t in range(size)]
        maximum = functools.reduce(jnp.maximum, frames)
        total = functools.reduce(jnp.add, [frame.astype(dtype) for frame in frames])
        return maximum.astype(dtype), total / size
    return x.max(axis).astype(dtype), x.astype(dtype).sum(axis) / size


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
