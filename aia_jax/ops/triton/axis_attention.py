"""An attention module in passes over its feature (`gpu_pass`), with one gradient for the module.

Nothing of a feature's size is written but the refined feature, and the gradient. What gates' and
pools' gradients have to tell x are planes until the last pass, which adds all of it up. With a
guide a module takes three passes in the forward pass and three in the backward pass.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from aia_jax.ops.triton.feature_pass import Reduction, feature_pass
from aia_jax.shapes import Array, Float

Axes = tuple[int, ...]
Planes = tuple[Array, ...]
Rounded = Callable[[Array], Array]
# (variables, pools) → (gates, whatever else is to come out). Pools are maximum, mean, and ties or
# None, for each axis. The gradient of a maximum is what each of the elements that equal it gets,
# that of a mean what each element gets (`shares`).
Units = Callable[[Any, Sequence[tuple[Array, Array, Array | None]]], tuple[Planes, Any]]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def attend(
    units: tuple[Units, Units],
    axes: tuple[Axes, Axes],
    relu: bool,
    x: Float[Array, "b t h w c"],
    variables: tuple[Any, Any],
) -> tuple[Float[Array, "b t h w c"], tuple[Any, Any]]:
    """Refines a feature by the host's gates, computed of what the guide's gates leave of it (paper,
    Eqs. 9-15).

    Args:
        units: compute gates of pools: the guide's of those of x, the host's of those of what the
            guide leaves.
        axes: those that the guide's units pool, none if there is no guide; and the host's. 1, 2, 3
            or 4 for T, H, W or C.
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
        pools = [(*pool, None) for pool in _pools(x, gates, gate_axes, pooled)]
        gates, other = units_of(their, pools) if pooled else ((), None)
        gate_axes = pooled
        others.append(other)
    return _refined(x, gates, gate_axes, relu), tuple(others)


def _forward(
    units: tuple[Units, Units],
    axes: tuple[Axes, Axes],
    relu: bool,
    x: Array,
    variables: tuple[Any, Any],
) -> tuple[tuple[Array, tuple[Any, Any]], tuple[Array, Any]]:
    gates: Planes = ()
    gate_axes: Axes = ()
    others, kept = [], []
    for units_of, pooled, their in zip(units, axes, variables, strict=True):
        pools = _pools(x, gates, gate_axes, pooled, "ties")
        gates, gradient, other = (
            jax.vjp(units_of, their, pools, has_aux=True) if pooled else ((), None, None)
        )
        gate_axes = pooled
        others.append(other)
        kept.append((gates, gradient, [maximum for maximum, *_ in pools]))
    return (_refined(x, gates, gate_axes, relu), tuple(others)), (x, kept)


def _backward(
    units: tuple[Units, Units],
    axes: tuple[Axes, Axes],
    relu: bool,
    saved: tuple[Array, Any],
    gradients: tuple[Array, Any],
) -> tuple[Array, tuple[Any, Any]]:
    x, ((guide_gates, guide_gradient, guide_maxima), (host_gates, host_gradient, host_maxima)) = (
        saved
    )
    guide_axes, host_axes = axes
    of_host, of_host_pools = host_gradient(_of_host_gates(x, gradients[0], host_axes, relu))
    told = _told(host_maxima, of_host_pools)
    of_guide = None
    if guide_axes:
        of_guide, of_guide_pools = guide_gradient(_of_guide_gates(x, guide_gates, told, axes))
        told += _told(guide_maxima, of_guide_pools)
    return _of_x(x, gradients[0], (*guide_gates, *host_gates, *told), axes, relu), (
        of_guide,
        of_host,
    )


attend.defvjp(_forward, _backward)


# The passes. Each is traced once a shape.


@functools.partial(jax.jit, static_argnums=(2, 3, 4))
def _pools(
    x: Array, gates: Planes, gate_axes: Axes, axes: Axes, kind: str = "pool"
) -> list[Planes]:
    """For each axis maximum, mean and, if asked for, ties of what gates leave of x."""

    def left(features: Sequence[Array], gates: Sequence[Array], rounded: Rounded) -> Planes:
        return (rounded(features[0] * _mean(gates)) if gates else features[0],)

    if not axes:
        return []
    results = feature_pass(
        left, (x,), gates, gate_axes, [Reduction(0, axis, kind) for axis in axes]
    )
    each = len(results) // len(axes)
    return [results[i : i + each] for i in range(0, len(results), each)]


@functools.partial(jax.jit, static_argnums=(2, 3))
def _refined(x: Array, gates: Planes, axes: Axes, relu: bool) -> Array:
    def product(features: Sequence[Array], gates: Sequence[Array], _: Rounded) -> Planes:
        y = features[0] * _mean(gates)
        return (jnp.maximum(y, 0.0) if relu else y,)

    return feature_pass(product, (x,), gates, axes, writes=((0, x.dtype),))[0]


@functools.partial(jax.jit, static_argnums=(2, 3))
def _of_host_gates(x: Array, of_y: Array, axes: Axes, relu: bool) -> Planes:
    def of_mean(features: Sequence[Array], *_: Any) -> Planes:
        x, of_y = features
        return (x * _through_relu(x, of_y, relu) * (1 / len(axes)),)

    return feature_pass(of_mean, (x, of_y), (), (), [Reduction(0, axis, "sum") for axis in axes])


@functools.partial(jax.jit, static_argnums=3)
def _of_guide_gates(x: Array, gates: Planes, told: Planes, axes: tuple[Axes, Axes]) -> Planes:
    guide_axes, host_axes = axes

    def of_mean(features: Sequence[Array], planes: Sequence[Array], rounded: Rounded) -> Planes:
        (x,), gates, told = features, planes[: len(guide_axes)], planes[len(guide_axes) :]
        return (_of_pooled(rounded(x * _mean(gates)), told) * x * (1 / len(guide_axes)),)

    return feature_pass(
        of_mean,
        (x,),
        (*gates, *told),
        (*guide_axes, *_threefold(host_axes)),
        [Reduction(0, axis, "sum") for axis in guide_axes],
    )


@functools.partial(jax.jit, static_argnums=(3, 4))
def _of_x(x: Array, of_y: Array, planes: Planes, axes: tuple[Axes, Axes], relu: bool) -> Array:
    guide_axes, host_axes = axes

    def everything(features: Sequence[Array], planes: Sequence[Array], rounded: Rounded) -> Planes:
        x, of_y = features
        rest = iter(planes)
        guide, host, by_host, by_guide = (
            [next(rest) for _ in range(count)]
            for count in (len(guide_axes), len(host_axes), 3 * len(host_axes), 3 * len(guide_axes))
        )
        of_x = _through_relu(x, of_y, relu) * _mean(host)
        if not guide:
            return (of_x + _of_pooled(x, by_host),)
        return (
            of_x
            + _of_pooled(rounded(x * _mean(guide)), by_host) * _mean(guide)
            + _of_pooled(x, by_guide),
        )

    return feature_pass(
        everything,
        (x, of_y),
        planes,
        (*guide_axes, *host_axes, *_threefold(host_axes), *_threefold(guide_axes)),
        writes=((0, x.dtype),),
    )[0]


def _mean(gates: Sequence[Array]) -> Array:
    return functools.reduce(jnp.add, gates) * (1 / len(gates))


def _through_relu(x: Array, of_y: Array, relu: bool) -> Array:
    return jnp.where(x > 0, of_y, 0.0) if relu else of_y  # gates are positive


def _told(maxima: Sequence[Array], of_pools: Sequence[Planes]) -> Planes:
    """What pools tell the feature that they pool: of each axis the maximum, and each element's
    shares of its gradient and the mean's.
    """
    return tuple(
        plane
        for maximum, (share, of_mean, _) in zip(maxima, of_pools, strict=True)
        for plane in (maximum, share, of_mean)
    )


def _threefold(axes: Axes) -> Axes:
    return tuple(axis for axis in axes for _ in range(3))


def _of_pooled(z: Array, told: Sequence[Array]) -> Array:
    """The gradient of a pooled feature. Equal maxima share theirs, as with JAX's own reduce-max."""
    shares = [
        jnp.where(z == told[i], told[i + 1], 0.0) + told[i + 2] for i in range(0, len(told), 3)
    ]
    return functools.reduce(jnp.add, shares)


@jax.custom_vjp
def shares(maximum: Array, mean: Array, ties: Array, length: Array) -> Planes:
    """Maximum and mean over an axis of a length, with gradients for one element each."""
    return maximum, mean


shares.defvjp(
    lambda maximum, mean, ties, length: ((maximum, mean), (ties, length)),
    lambda saved, gradients: (gradients[0] / saved[0], gradients[1] / saved[1], None, None),
)
