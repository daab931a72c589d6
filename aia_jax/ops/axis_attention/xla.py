"""Gates and the pooled contexts of what they refine: the passes of AIA over a whole feature (paper,
Eqs. 1-4, 9-15).

Everything else in an attention works on planes, features with one axis pooled away. So does a gate:
it says by how much each element of a plane is let through, and stretches along the pooled axis
where it meets the feature. Several gates on one feature act by their mean.

A refined feature is never kept for the gradient, and neither is a gate stretched to a feature's
size: both are products of what is kept, the feature and the planes, and are cheaper computed twice
than stored once.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from aia_jax.ops.fused_reductions import maximum_and_sum, maximum_sum_and_ties, sums
from aia_jax.ops.xla_fusion import apart, rounded, wide
from aia_jax.shapes import Array, Float

Plane = Float[Array, "b _ _ _"]  # a feature without one of its axes
Planes = tuple[Plane, ...]
Pools = tuple[tuple[Plane, Plane], ...]  # the maximum and the mean, for each axis


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def gated(
    x: Float[Array, "b t h w c"], gates: Planes, axes: tuple[int, ...]
) -> Float[Array, "b t h w c"]:
    """A feature times the mean of its gates (paper, Eqs. 9-15).

    Args:
        x: feature, any float dtype; the product has it too.
        gates: planes of float32 (float64 for a float64 feature), one or more.
        axes: of each gate, the axis of `x` that it lacks: 1, 2, 3 or 4 for T, H, W or C.
    """
    return rounded(_times(x, gates, axes), x.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
@functools.partial(jax.jit, static_argnums=(2, 3))  # traced once a shape, as its gradient
def gated_pools(
    x: Float[Array, "b t h w c"], gates: Planes, gate_axes: tuple[int, ...], axes: tuple[int, ...]
) -> Pools:
    """Pools a feature, or what gates leave of it, along each of some axes to its maximum and its
    mean (paper, Eqs. 1-4).

    Args:
        x: feature, any float dtype.
        gates, gate_axes: as in `gated`; without a gate the feature itself is pooled.
        axes: 1, 2, 3 or 4 for T, H, W or C.

    Returns:
        For each axis the maximum and the mean over it, that axis removed, in float32 (float64 for
        float64), of a product that was not rounded to x's dtype. The reference stacks them in this
        order; the paper prints the other.
    """
    return tuple(_pool(_times(x, gates, gate_axes), axis) for axis in axes)


def _mask(gates: Planes, axes: tuple[int, ...]) -> Array:
    return functools.reduce(
        jnp.add, [jnp.expand_dims(gate, axis) for gate, axis in zip(gates, axes, strict=True)]
    ) * (1 / len(gates))


def _times(x: Array, gates: Planes, axes: tuple[int, ...]) -> Array:
    return wide(x) * _mask(gates, axes) if gates else wide(x)


def _sum(x: Array, axis: int) -> Array:
    """XLA's CPU backend walks an outer axis with a stride of a whole frame; halves of a clip or
    slices of frames stream instead.
    """
    if axis != 1:
        return x.sum(axis)
    if x.shape[1] % 2:
        return functools.reduce(jnp.add, [x[:, t] for t in range(x.shape[1])])
    # Unlike additions, which XLA would write into each reader, this is computed once.
    return jnp.add(*sums(tuple(jnp.split(x, 2, 1)), 1))


def _to_gates(x: Array, axes: tuple[int, ...]) -> Planes:
    """The gradient of gates from that of their mean, stretched."""
    return tuple(_to_one_of(len(axes), x, axis) for axis in axes)


def _to_one_of(gates: int, x: Array, axis: int) -> Plane:
    """The same for one of so many gates."""
    # On GPUs what follows a sum over H, W or C is a kernel of its own.
    return jax.lax.platform_dependent(
        x, cpu=lambda x: _sum(x, axis) * (1 / gates), default=lambda x: (x * (1 / gates)).sum(axis)
    )


def _pool(z: Array, axis: int) -> tuple[Plane, Plane]:
    def on_cpus(z: Array) -> tuple[Plane, Plane]:
        maximum, total = maximum_and_sum(z, axis)
        return maximum, total / z.shape[axis]

    return jax.lax.platform_dependent(
        z, cpu=on_cpus, default=functools.partial(_maximum_and_mean, axis=axis)
    )


def _maximum_and_mean(z: Array, axis: int) -> tuple[Plane, Plane]:
    return z.max(axis), (z / z.shape[axis]).sum(axis)


def _pool_and_ties(
    x: Array, gates: Planes, gate_axes: tuple[int, ...], axis: int
) -> tuple[Plane, Plane, Plane]:
    """As `_pool` of what gates leave of x, and how many elements equal the maximum."""

    def on_cpus(x: Array, gates: Planes) -> tuple[Plane, Plane, Plane]:
        maximum, total, ties = maximum_sum_and_ties(_times(x, gates, gate_axes), axis)
        return maximum, total / x.shape[axis], ties

    def elsewhere(x: Array, gates: Planes) -> tuple[Plane, Plane, Plane]:
        # Counting needs the maximum first, so it would be a pass of its own. With operands that no
        # other pass has but x, XLA counts in any later pass that reads x and sums over this axis,
        # as the gradient of a gate does. The barrier around maximum and mean keeps the two in one
        # pass.
        maximum, mean = jax.lax.optimization_barrier(
            _maximum_and_mean(_times(x, gates, gate_axes), axis)
        )
        gates, found = jax.lax.optimization_barrier((gates, maximum))
        z = _times(x, gates, gate_axes)
        return (
            maximum,
            mean,
            jax.lax.optimization_barrier(
                (z == jnp.expand_dims(found, axis)).astype(z.dtype).sum(axis)
            ),
        )

    return jax.lax.platform_dependent(x, gates, cpu=on_cpus, default=elsewhere)


def _gated_forward(
    x: Array, gates: Planes, axes: tuple[int, ...]
) -> tuple[Array, tuple[Array, Planes]]:
    return gated(x, gates, axes), (x, gates)


def _gated_backward(
    axes: tuple[int, ...], saved: tuple[Array, Planes], gradient: Array
) -> tuple[Array, Planes]:
    x, gates = saved
    return _times(gradient, gates, axes).astype(x.dtype), _to_gates(wide(gradient) * wide(x), axes)


@functools.partial(jax.jit, static_argnums=(2, 3))
def _pools_and_ties(
    x: Array, gates: Planes, gate_axes: tuple[int, ...], axes: tuple[int, ...]
) -> tuple[tuple[Plane, Plane, Plane], ...]:
    return tuple(_pool_and_ties(x, gates, gate_axes, axis) for axis in axes)


def _pools_forward(
    x: Array, gates: Planes, gate_axes: tuple[int, ...], axes: tuple[int, ...]
) -> tuple[Pools, tuple[Array, Planes, Pools]]:
    results = _pools_and_ties(x, gates, gate_axes, axes)
    pools = tuple((maximum, mean) for maximum, mean, _ in results)
    return pools, (x, gates, tuple((maximum, ties) for maximum, _, ties in results))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _pools_backward(
    gate_axes: tuple[int, ...],
    axes: tuple[int, ...],
    saved: tuple[Array, Planes, Pools],
    gradients: Pools,
) -> tuple[Array, Planes]:
    def gradient(
        anew: Callable[[Any], Any], x: Array, gates: Planes, pools: tuple[Planes, ...]
    ) -> tuple[Array, Planes]:
        def of_z() -> Array:
            z = _times(x, gates, gate_axes)
            total = jnp.zeros((), z.dtype)
            for axis, planes in zip(axes, pools, strict=True):
                maximum, share, of_mean = (jnp.expand_dims(plane, axis) for plane in planes)
                total += jnp.where(z == maximum, share, 0) + of_mean
            return total

        of_gates = []
        for axis in gate_axes:
            gates, pools = anew((gates, pools))
            of_gates.append(_to_one_of(len(gates), of_z() * wide(x), axis))
        gates, pools = anew((gates, pools))
        return _times(of_z(), gates, gate_axes).astype(x.dtype), tuple(of_gates)

    def on_cpus(*operands: Any) -> tuple[Array, Planes]:
        # What the gradient needs of z and of its maxima could be computed in the forward pass
        # already: it must not be, or it is kept till here.
        return apart(
            functools.partial(gradient, lambda planes: planes),
            *jax.lax.optimization_barrier(operands),
        )

    x, gates, maxima = saved
    # Equal maxima share the gradient, as JAX's own reduce-max does.
    pools = tuple(
        (maximum, of_maximum / ties, of_mean / x.shape[axis])
        for axis, (maximum, ties), (of_maximum, of_mean) in zip(
            axes, maxima, gradients, strict=True
        )
    )
    # Elsewhere it may be fused: gradients of several pools then are added up as they are computed.
    # What passes have in common XLA would compute once and keep, in the size of the feature; planes
    # behind a barrier of its own make each pass compute it.
    return jax.lax.platform_dependent(
        x,
        gates,
        pools,
        cpu=on_cpus,
        default=functools.partial(gradient, jax.lax.optimization_barrier),
    )


gated.defvjp(_gated_forward, _gated_backward)
gated_pools.defvjp(_pools_forward, _pools_backward)
