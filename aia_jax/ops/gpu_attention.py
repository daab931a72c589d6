"""An attention module in passes over its feature (`gpu_pass`), with one gradient for the module.

Nothing of a feature's size is written but the refined feature, and the gradient. What gates' and pools' gradients have to tell x are planes
until the last pass, which adds all of it up. With a guide a module takes three passes in the forward pass and three in the backward pass.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from aia_jax.ops.gpu_pass import Reduction, feature_pass
from aia_jax.shapes import Array, Float

Axes = tuple[int, ...]
Planes = tuple[Array, ...]
# (variables, pools: for each axis the maximum and the mean) → (gates, whatever else is to come out)
Units = Callable[[Any, Sequence[tuple[Array, Array]]], tuple[Planes, Any]]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def attend(
    units: tuple[Units, Units], axes: tuple[Axes, Axes], relu: bool, x: Float[Array, "b t h w c"], variables: tuple[Any, Any]
) -> tuple[Float[Array, "b t h w c"], tuple[Any, Any]]:
    """Refines a feature by the host's gates, computed of what the guide's gates leave of it (paper, Eqs. 9-15).

    Args:
        units: compute gates of pools: the guide's of those of x, the host's of those of what the guide leaves.
        axes: those that the guide's units pool, none if there is no guide; and the host's. 1, 2, 3 or 4 for T, H, W or C.
        relu: whether max(·, 0) of the refined feature is returned.
        x: feature, float32 or less.
        variables: the first arguments of the units.

    Returns:
        x times the mean of the host's gates, of x's dtype; and what else came out of the units.
    """
    gates: Planes = ()
    gate_axes: Axes = ()
    others = []
    for units_of, pooled, their in zip(units, axes, variables, strict=True):
        gates, other = units_of(their, _pools(x, gates, gate_axes, pooled)) if pooled else ((), None)
        gate_axes = pooled
        others.append(other)
    return _refined(x, gates, gate_axes, relu), tuple(others)


def _forward(
    units: tuple[Units, Units], axes: tuple[Axes, Axes], relu: bool, x: Array, variables: tuple[Any, Any]
) -> tuple[tuple[Array, tuple[Any, Any]], tuple[Array, Any]]:
    gates: Planes = ()
    gate_axes: Axes = ()
    others, kept = [], []
    for units_of, pooled, their in zip(units, axes, variables, strict=True):
        pools_and_ties = _pools(x, gates, gate_axes, pooled, "ties")
        pools = [(maximum, mean) for maximum, mean, _ in pools_and_ties]
        gates, gradient, other = jax.vjp(units_of, their, pools, has_aux=True) if pooled else ((), None, None)
        gate_axes = pooled
        others.append(other)
        kept.append((gates, gradient, [(maximum, ties) for maximum, _, ties in pools_and_ties]))
    return (_refined(x, gates, gate_axes, relu), tuple(others)), (x, kept)


def _backward(
    units: tuple[Units, Units], axes: tuple[Axes, Axes], relu: bool, saved: tuple[Array, Any], gradients: tuple[Array, Any]
) -> tuple[Array, tuple[Any, Any]]:
    x, ((guide_gates, guide_gradient, guide_maxima), (host_gates, host_gradient, host_maxima)) = saved
    guide_axes, host_axes = axes
    of_host, of_host_pools = host_gradient(_of_host_gates(x, gradients[0], host_axes, relu))
    told = _told(host_maxima, of_host_pools)
    of_guide = None
    if guide_axes:
        of_guide, of_guide_pools = guide_gradient(_of_guide_gates(x, guide_gates, told, axes))
        told += _told(guide_maxima, of_guide_pools)
    return _of_x(x, gradients[0], (*guide_gates, *host_gates, *told), axes, relu), (of_guide, of_host)


attend.defvjp(_forward, _backward)


# The passes. Each is traced once a shape.


@functools.partial(jax.jit, static_argnums=(2, 3, 4))
def _pools(x: Array, gates: Planes, gate_axes: Axes, axes: Axes, kind: str = "pool") -> list[Planes]:
    """For each axis maximum, mean and, if asked for, ties of what gates leave of x."""

    def left(features: Sequence[Array], gates: Sequence[Array]) -> Planes:
        return (features[0] * _mean(gates) if gates else features[0],)

    if not axes:
        return []
    results = feature_pass(left, (x,), gates, gate_axes, [Reduction(0, axis, kind) for axis in axes])
    each = len(results) // len(axes)
    return [results[i : i + each] for i in range(0, len(results), each)]


@functools.partial(jax.jit, static_argnums=(2, 3))
def _refined(x: Array, gates: Planes, axes: Axes, relu: bool) -> Array:
    def product(features: Sequence[Array], gates: Sequence[Array]) -> Planes:
        y = features[0] * _mean(gates)
        return (jnp.maximum(y, 0.0) if relu else y,)

    return feature_pass(product, (x,), gates, axes, writes=((0, x.dtype),))[0]


@functools.partial(jax.jit, static_argnums=(2, 3))
def _of_host_gates(x: Array, of_y: Array, axes: Axes, relu: bool) -> Planes:
    def of_mean(features: Sequence[Array], _: Sequence[Array]) -> Planes:
        x, of_y = features
        return (x * _through_relu(x, of_y, relu) * (1 / len(axes)),)

    return feature_pass(of_mean, (x, of_y), (), (), [Reduction(0, axis, "sum") for axis in axes])


@functools.partial(jax.jit, static_argnums=3)
def _of_guide_gates(x: Array, gates: Planes, told: Planes, axes: tuple[Axes, Axes]) -> Planes:
    guide_axes, host_axes = axes
    of_pooled = functools.partial(_of_pooled, sizes=x.shape)

    def of_mean(features: Sequence[Array], planes: Sequence[Array]) -> Planes:
        (x,), gates, told = features, planes[: len(guide_axes)], planes[len(guide_axes) :]
        return (of_pooled(x * _mean(gates), told, host_axes) * x * (1 / len(guide_axes)),)

    return feature_pass(of_mean, (x,), (*gates, *told), (*guide_axes, *_fourfold(host_axes)), [Reduction(0, axis, "sum") for axis in guide_axes])


@functools.partial(jax.jit, static_argnums=(3, 4))
def _of_x(x: Array, of_y: Array, planes: Planes, axes: tuple[Axes, Axes], relu: bool) -> Array:
    guide_axes, host_axes = axes
    of_pooled = functools.partial(_of_pooled, sizes=x.shape)

    def everything(features: Sequence[Array], planes: Sequence[Array]) -> Planes:
        x, of_y = features
        rest = iter(planes)
        guide, host, by_host, by_guide = (
            [next(rest) for _ in range(count)] for count in (len(guide_axes), len(host_axes), 4 * len(host_axes), 4 * len(guide_axes))
        )
        of_x = _through_relu(x, of_y, relu) * _mean(host)
        if not guide:
            return (of_x + of_pooled(x, by_host, host_axes),)
        return (of_x + of_pooled(x * _mean(guide), by_host, host_axes) * _mean(guide) + of_pooled(x, by_guide, guide_axes),)

    return feature_pass(
        everything,
        (x, of_y),
        planes,
        (*guide_axes, *host_axes, *_fourfold(host_axes), *_fourfold(guide_axes)),
        writes=((0, x.dtype),),
    )[0]


def _mean(gates: Sequence[Array]) -> Array:
    return functools.reduce(jnp.add, gates) * (1 / len(gates))


def _through_relu(x: Array, of_y: Array, relu: bool) -> Array:
    return jnp.where(x > 0, of_y, 0.0) if relu else of_y  # gates are positive


def _told(maxima: Sequence[Planes], of_pools: Sequence[Planes]) -> Planes:
    """What pools tell the feature that they pool: of each axis maximum, ties, and the gradients of maximum and mean."""
    return tuple(plane for kept, told in zip(maxima, of_pools, strict=True) for plane in (*kept, *told))


def _fourfold(axes: Axes) -> Axes:
    return tuple(axis for axis in axes for _ in range(4))


def _of_pooled(z: Array, told: Sequence[Array], axes: Axes, sizes: Sequence[int]) -> Array:
    """The gradient of a pooled feature. Equal maxima share theirs, as with JAX's own reduce-max."""
    shares = []
    for i, axis in enumerate(axes):
        maximum, ties, of_maximum, of_mean = told[4 * i : 4 * i + 4]
        shares.append(jnp.where(z == maximum, of_maximum / ties, 0.0) + of_mean * (1 / sizes[axis]))
    return functools.reduce(jnp.add, shares)
