"""An attention module as passes over its feature, with one gradient for the whole module.

With a guide a module takes three passes forward and three backward. The only features they write
are the refined feature and dx. The gradients that the pools send to x stay planes until the last
backward pass, which adds up all of them (README.md in this folder has the passes in a table).
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from aia_jax.ops.triton.feature_pass import Reduction, feature_pass
from aia_jax.shapes import Array, Float

Axes = tuple[int, ...]  # 1, 2, 3 or 4 for T, H, W or C
Planes = tuple[Array, ...]

# (variables, pools) → (gates, auxiliary results). A pool is (maximum, mean, ties); ties are None if
# no gradient is needed. The gradients of a pool are those of one element of the pooled axis: each
# element that equals the maximum gets that of maximum, and every element gets that of mean.
GateFunction = Callable[[Any, Sequence[tuple[Array, Array, Array | None]]], tuple[Planes, Any]]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def refine_feature(
    gate_functions: tuple[GateFunction, GateFunction],
    axes: tuple[Axes, Axes],
    relu: bool,
    x: Float[Array, "b t h w c"],
    variables: tuple[Any, Any],
) -> tuple[Float[Array, "b t h w c"], tuple[Any, Any]]:
    """Multiplies a feature by the host's gates (paper, Eqs. 9-15).

    The guide's gates are computed from the pools of x. The host's gates are computed from the pools
    of z = x times the mean of the guide's gates, or of z = x without a guide.

    Args:
        gate_functions: compute the gates of guide and host from pools.
        axes: over which guide and host pool; () for the guide if there is none.
        relu: whether max(., 0) of the refined feature is returned.
        x: feature of at most 32 bits an element.
        variables: the first arguments of the two gate functions.

    Returns:
        x times the mean of the host's gates, in x's dtype, and the auxiliary results of both gate
        functions (None without a guide).
    """
    gates: Planes = ()
    gate_axes: Axes = ()
    auxiliary = []
    for compute_gates, pooled_axes, own_variables in zip(
        gate_functions, axes, variables, strict=True
    ):
        pools = [(*pool, None) for pool in _pool_pass(x, gates, gate_axes, pooled_axes)]
        gates, results = compute_gates(own_variables, pools) if pooled_axes else ((), None)
        gate_axes = pooled_axes
        auxiliary.append(results)
    return _refine_pass(x, gates, gate_axes, relu), tuple(auxiliary)


def _forward(
    gate_functions: tuple[GateFunction, GateFunction],
    axes: tuple[Axes, Axes],
    relu: bool,
    x: Array,
    variables: tuple[Any, Any],
) -> tuple[tuple[Array, tuple[Any, Any]], tuple[Array, Any]]:
    gates: Planes = ()
    gate_axes: Axes = ()
    auxiliary, saved = [], []
    for compute_gates, pooled_axes, own_variables in zip(
        gate_functions, axes, variables, strict=True
    ):
        pools = _pool_pass(x, gates, gate_axes, pooled_axes, "ties")
        gates, gradient, results = (), None, None
        if pooled_axes:
            gates, gradient, results = jax.vjp(compute_gates, own_variables, pools, has_aux=True)
        gate_axes = pooled_axes
        auxiliary.append(results)
        saved.append((gates, gradient, [maximum for maximum, *_ in pools]))
    return (_refine_pass(x, gates, gate_axes, relu), tuple(auxiliary)), (x, saved)


def _backward(
    gate_functions: tuple[GateFunction, GateFunction],
    axes: tuple[Axes, Axes],
    relu: bool,
    residuals: tuple[Array, Any],
    gradients: tuple[Array, Any],
) -> tuple[Array, tuple[Any, Any]]:
    x, saved = residuals
    (guide_gates, guide_gradient, guide_maxima), (host_gates, host_gradient, host_maxima) = saved
    dy = gradients[0]
    guide_axes, host_axes = axes
    dhost_variables, dpools = host_gradient(_dhost_gates_pass(x, dy, host_axes, relu))
    pool_gradients = _flatten_pool_gradients(host_maxima, dpools)
    dguide_variables = None
    if guide_axes:
        dguide_gates = _dguide_gates_pass(x, guide_gates, pool_gradients, axes)
        dguide_variables, dpools = guide_gradient(dguide_gates)
        pool_gradients += _flatten_pool_gradients(guide_maxima, dpools)
    dx = _dx_pass(x, dy, (*guide_gates, *host_gates, *pool_gradients), axes, relu)
    return dx, (dguide_variables, dhost_variables)


refine_feature.defvjp(_forward, _backward)


# The passes. Each is a jit, so that it is traced once for each shape.


@functools.partial(jax.jit, static_argnums=(2, 3, 4))
def _pool_pass(
    x: Array, gates: Planes, gate_axes: Axes, axes: Axes, kind: str = "pool"
) -> list[Planes]:
    """Pools x, or x times the mean of gates, over each axis: (maximum, mean) or with ties."""

    def body(
        features: Sequence[Array], gates: Sequence[Array], round_to_dtype: Callable[[Array], Array]
    ) -> Planes:
        return (round_to_dtype(features[0] * _mean(gates)) if gates else features[0],)

    if not axes:
        return []
    reductions = [Reduction(0, axis, kind) for axis in axes]
    results = feature_pass(body, (x,), gates, gate_axes, reductions)
    per_axis = len(results) // len(axes)
    return [results[i : i + per_axis] for i in range(0, len(results), per_axis)]


@functools.partial(jax.jit, static_argnums=(2, 3))
def _refine_pass(x: Array, gates: Planes, axes: Axes, relu: bool) -> Array:
    """y = x times the mean of gates."""

    def body(features: Sequence[Array], gates: Sequence[Array], _: Any) -> Planes:
        y = features[0] * _mean(gates)
        return (jnp.maximum(y, 0.0) if relu else y,)

    return feature_pass(body, (x,), gates, axes, writes=((0, x.dtype),))[0]


@functools.partial(jax.jit, static_argnums=(2, 3))
def _dhost_gates_pass(x: Array, dy: Array, axes: Axes, relu: bool) -> Planes:
    """The gradients of the host's gates: dy · x over their number, summed over the pooled axis."""

    def body(features: Sequence[Array], *_: Any) -> Planes:
        x, dy = features
        return (x * _drelu(x, dy, relu) * (1 / len(axes)),)

    return feature_pass(body, (x, dy), (), (), [Reduction(0, axis, "sum") for axis in axes])


@functools.partial(jax.jit, static_argnums=3)
def _dguide_gates_pass(
    x: Array, gates: Planes, pool_gradients: Planes, axes: tuple[Axes, Axes]
) -> Planes:
    """The gradients of the guide's gates: dz · x over their number, summed over the pooled axis."""
    guide_axes, host_axes = axes

    def body(
        features: Sequence[Array], planes: Sequence[Array], round_to_dtype: Callable[[Array], Array]
    ) -> Planes:
        (x,) = features
        gates, pool_gradients = planes[: len(guide_axes)], planes[len(guide_axes) :]
        dz = _dpooled(round_to_dtype(x * _mean(gates)), pool_gradients)
        return (dz * x * (1 / len(guide_axes)),)

    return feature_pass(
        body,
        (x,),
        (*gates, *pool_gradients),
        (*guide_axes, *_repeat_each(host_axes)),
        [Reduction(0, axis, "sum") for axis in guide_axes],
    )


@functools.partial(jax.jit, static_argnums=(3, 4))
def _dx_pass(x: Array, dy: Array, planes: Planes, axes: tuple[Axes, Axes], relu: bool) -> Array:
    """dx = dy times the host's gates, plus what the pools of z and of x send back.

    Args:
        planes: the guide's gates, the host's gates, the pool gradients of the host, of the guide.
    """
    guide_axes, host_axes = axes
    counts = len(guide_axes), len(host_axes), 3 * len(host_axes), 3 * len(guide_axes)

    def body(
        features: Sequence[Array], planes: Sequence[Array], round_to_dtype: Callable[[Array], Array]
    ) -> Planes:
        x, dy = features
        remaining = iter(planes)
        guide_gates, host_gates, host_pool_gradients, guide_pool_gradients = (
            [next(remaining) for _ in range(count)] for count in counts
        )
        dx = _drelu(x, dy, relu) * _mean(host_gates)
        if not guide_gates:
            return (dx + _dpooled(x, host_pool_gradients),)
        dz = _dpooled(round_to_dtype(x * _mean(guide_gates)), host_pool_gradients)
        return (dx + dz * _mean(guide_gates) + _dpooled(x, guide_pool_gradients),)

    return feature_pass(
        body,
        (x, dy),
        planes,
        (*guide_axes, *host_axes, *_repeat_each(host_axes), *_repeat_each(guide_axes)),
        writes=((0, x.dtype),),
    )[0]


def _mean(gates: Sequence[Array]) -> Array:
    return functools.reduce(jnp.add, gates) * (1 / len(gates))


def _drelu(x: Array, dy: Array, relu: bool) -> Array:
    # The refined feature has the sign of x, because gates are positive.
    return jnp.where(x > 0, dy, 0.0) if relu else dy


def _flatten_pool_gradients(maxima: Sequence[Array], dpools: Sequence[Planes]) -> Planes:
    """Three planes for each axis: the maximum, and one element's gradients of maximum and mean."""
    return tuple(
        plane
        for maximum, (dmaximum, dmean, _) in zip(maxima, dpools, strict=True)
        for plane in (maximum, dmaximum, dmean)
    )


def _repeat_each(axes: Axes) -> Axes:
    """The axes of the three planes that `_flatten_pool_gradients` makes of each axis."""
    return tuple(axis for axis in axes for _ in range(3))


def _dpooled(z: Array, pool_gradients: Sequence[Array]) -> Array:
    """The gradient of a pooled feature z.

    Elements that equal the maximum share its gradient, as with JAX's own reduce-max.
    """
    gradients = [
        jnp.where(z == maximum, dmaximum, 0.0) + dmean
        for maximum, dmaximum, dmean in zip(
            pool_gradients[::3], pool_gradients[1::3], pool_gradients[2::3], strict=True
        )
    ]
    return functools.reduce(jnp.add, gradients)
