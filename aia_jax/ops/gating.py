"""Gates and the pooled contexts of what they refine: the passes of AIA over a whole feature (paper, Eqs. 1-4, 9-15).

Everything else in an attention works on planes, features with one axis pooled away. So does a gate: it says by how much each element of a
plane is let through, and stretches along the pooled axis where it meets the feature. Several gates on one feature act by their mean.

A refined feature is never kept for the gradient, and neither is a gate stretched to a feature's size: both are products of what is kept,
the feature and the planes, and are cheaper computed twice than stored once.
"""

import functools

import jax
import jax.numpy as jnp

from aia_jax.ops.apart import apart
from aia_jax.ops.one_pass import maximum_and_sum, maximum_sum_and_ties
from aia_jax.ops.precision import rounded, wide
from aia_jax.shapes import Array, Float

Plane = Float[Array, "b _ _ _"]  # a feature without one of its axes
Planes = tuple[Plane, ...]
Pools = tuple[tuple[Plane, Plane], ...]  # the maximum and the mean, for each axis


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def gated(x: Float[Array, "b t h w c"], gates: Planes, axes: tuple[int, ...]) -> Float[Array, "b t h w c"]:
    """A feature times the mean of its gates (paper, Eqs. 9-15).

    Args:
        x: feature, any float dtype; the product has it too.
        gates: planes of float32 (float64 for a float64 feature), one or more.
        axes: of each gate, the axis of `x` that it lacks: 1, 2, 3 or 4 for T, H, W or C.
    """
    return rounded(_times(x, gates, axes), x.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
@functools.partial(jax.jit, static_argnums=(2, 3))  # traced once a shape, as its gradient
def gated_pools(x: Float[Array, "b t h w c"], gates: Planes, gate_axes: tuple[int, ...], axes: tuple[int, ...]) -> Pools:
    """Pools a feature, or what gates leave of it, along each of some axes to its maximum and its mean (paper, Eqs. 1-4).

    Args:
        x: feature, any float dtype.
        gates, gate_axes: as in `gated`; without a gate the feature itself is pooled.
        axes: 1, 2, 3 or 4 for T, H, W or C.

    Returns:
        For each axis the maximum and the mean over it, that axis removed, in float32 (float64 for float64), of a product that was not
        rounded to x's dtype. The reference stacks them in this order; the paper prints the other.
    """
    return tuple(_pool(_times(x, gates, gate_axes), axis) for axis in axes)


def _mask(gates: Planes, axes: tuple[int, ...]) -> Array:
    return functools.reduce(jnp.add, [jnp.expand_dims(gate, axis) for gate, axis in zip(gates, axes, strict=True)]) * (1 / len(gates))


def _times(x: Array, gates: Planes, axes: tuple[int, ...]) -> Array:
    return wide(x) * _mask(gates, axes) if gates else wide(x)


def _sum(x: Array, axis: int) -> Array:
    """XLA's CPU backend walks an outer axis with a stride of a whole frame; slices of frames stream instead."""
    return functools.reduce(jnp.add, [x[:, t] for t in range(x.shape[1])]) if axis == 1 else x.sum(axis)


def _to_gates(x: Array, axes: tuple[int, ...]) -> Planes:
    """The gradient of gates from that of their mean, stretched."""
    return tuple(_sum(x, axis) * (1 / len(axes)) for axis in axes)


def _pool(z: Array, axis: int) -> tuple[Plane, Plane]:
    maximum, total = jax.lax.platform_dependent(
        z, cpu=functools.partial(maximum_and_sum, axis=axis), default=lambda z: (z.max(axis), z.sum(axis))
    )
    return maximum, total / z.shape[axis]


def _pool_and_ties(z: Array, axis: int) -> tuple[Plane, Plane, Plane]:
    """As `_pool`, and how many elements equal the maximum."""

    def separately(z: Array) -> tuple[Plane, Plane, Plane]:
        maximum = z.max(axis)
        return maximum, z.sum(axis), (z == jnp.expand_dims(maximum, axis)).astype(z.dtype).sum(axis)

    maximum, total, ties = jax.lax.platform_dependent(z, cpu=functools.partial(maximum_sum_and_ties, axis=axis), default=separately)
    return maximum, total / z.shape[axis], ties


def _gated_forward(x: Array, gates: Planes, axes: tuple[int, ...]) -> tuple[Array, tuple[Array, Planes]]:
    return gated(x, gates, axes), (x, gates)


def _gated_backward(axes: tuple[int, ...], saved: tuple[Array, Planes], gradient: Array) -> tuple[Array, Planes]:
    x, gates = saved
    return _times(gradient, gates, axes).astype(x.dtype), _to_gates(wide(gradient) * wide(x), axes)


@functools.partial(jax.jit, static_argnums=(2, 3))
def _pools_and_ties(x: Array, gates: Planes, gate_axes: tuple[int, ...], axes: tuple[int, ...]) -> tuple[tuple[Plane, Plane, Plane], ...]:
    return tuple(_pool_and_ties(_times(x, gates, gate_axes), axis) for axis in axes)


def _pools_forward(x: Array, gates: Planes, gate_axes: tuple[int, ...], axes: tuple[int, ...]) -> tuple[Pools, tuple[Array, Planes, Pools]]:
    results = _pools_and_ties(x, gates, gate_axes, axes)
    pools = tuple((maximum, mean) for maximum, mean, _ in results)
    return pools, (x, gates, tuple((maximum, ties) for maximum, _, ties in results))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _pools_backward(
    gate_axes: tuple[int, ...], axes: tuple[int, ...], saved: tuple[Array, Planes, Pools], gradients: Pools
) -> tuple[Array, Planes]:
    # What the gradient needs of z and of its maxima could be computed in the forward pass already: it must not be, or it is kept till here.
    operands = jax.lax.optimization_barrier((*saved, gradients))

    def gradient(x: Array, gates: Planes, maxima: Pools, gradients: Pools) -> tuple[Array, Planes]:
        z = _times(x, gates, gate_axes)
        of_z = jnp.zeros((), z.dtype)
        for axis, (maximum, ties), (of_maximum, of_mean) in zip(axes, maxima, gradients, strict=True):
            # Equal maxima share the gradient, as JAX's own reduce-max does.
            share = jnp.expand_dims(of_maximum / ties, axis)
            of_z += jnp.where(z == jnp.expand_dims(maximum, axis), share, 0) + jnp.expand_dims(of_mean / z.shape[axis], axis)
        if not gates:
            return of_z.astype(x.dtype), ()
        return _times(of_z, gates, gate_axes).astype(x.dtype), _to_gates(of_z * wide(x), gate_axes)

    # Elsewhere it may be fused: gradients of several pools then are added up as they are computed.
    return jax.lax.platform_dependent(*operands, cpu=functools.partial(apart, gradient), default=gradient)


gated.defvjp(_gated_forward, _gated_backward)
gated_pools.defvjp(_pools_forward, _pools_backward)
