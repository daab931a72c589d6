"""The two passes of axis attention over a whole feature in XLA's operations: pools and gates.

Everything else in an attention module works on planes: features with one axis pooled away. A gate
is such a plane, too. It is broadcast along the pooled axis where it meets the feature, and several
gates on one feature act by their mean (paper, Eqs. 1-4 and 9-15).

Neither a refined feature nor a gate of a feature's size is stored for the gradient. Both are
products of the feature and of planes, which are stored, and computing them twice costs less than
storing them (docs/experiments.md, "Gates: autodiff through").
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from aia_jax.ops.fused_reductions import maximum_and_sum, maximum_sum_and_ties, sum_each
from aia_jax.ops.xla_fusion import at_least_float32, materialize, round_to
from aia_jax.shapes import Array, Float

Plane = Float[Array, "b _ _ _"]  # a feature without one of its axes
Planes = tuple[Plane, ...]
Pools = tuple[tuple[Plane, Plane], ...]  # the maximum and the mean, for each axis
Axes = tuple[int, ...]


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def apply_gates(
    x: Float[Array, "b t h w c"], gates: Planes, axes: Axes
) -> Float[Array, "b t h w c"]:
    """Multiplies a feature by the mean of its gates (paper, Eqs. 9-15).

    Args:
        x: feature, any float dtype; the product has it too.
        gates: one or more planes of float32 (float64 for a float64 feature).
        axes: for each gate the axis of x that it was pooled over: 1, 2, 3 or 4 for T, H, W or C.
    """
    return round_to(_refine(x, gates, axes), x.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
@functools.partial(jax.jit, static_argnums=(2, 3))  # traced once for each shape, as its gradient is
def pool_axes(x: Float[Array, "b t h w c"], gates: Planes, gate_axes: Axes, axes: Axes) -> Pools:
    """Pools x times the mean of its gates along each of several axes (paper, Eqs. 1-4).

    Args:
        x: feature, any float dtype.
        gates, gate_axes: as in `apply_gates`; without gates x itself is pooled.
        axes: 1, 2, 3 or 4 for T, H, W or C.

    Returns:
        For each axis the maximum and the mean over it, that axis removed, in float32 (float64 for
        float64). The product is pooled before it is rounded to x's dtype. The reference stacks the
        pair in this order; the paper prints the mean first.
    """
    return tuple(_pool(_refine(x, gates, gate_axes), axis) for axis in axes)


def _mean_gate(gates: Planes, axes: Axes) -> Array:
    """The mean of gates, each broadcast along its own axis."""
    broadcast = [jnp.expand_dims(gate, axis) for gate, axis in zip(gates, axes, strict=True)]
    return functools.reduce(jnp.add, broadcast) * (1 / len(gates))


def _refine(x: Array, gates: Planes, axes: Axes) -> Array:
    """x times the mean of its gates (x itself without gates), in at least float32."""
    if not gates:
        return at_least_float32(x)
    return at_least_float32(x) * _mean_gate(gates, axes)


def _sum_axis_on_cpus(x: Array, axis: int) -> Array:
    """Sums over an axis of [B, T, H, W, C].

    Over T, XLA's CPU backend would jump by a whole frame from one addend to the next. The sum of a
    clip's two halves, or of its frames one by one, reads x in the order of memory.
    """
    if axis != 1:
        return x.sum(axis)
    if x.shape[1] % 2:
        return functools.reduce(jnp.add, [x[:, t] for t in range(x.shape[1])])
    # XLA would fuse plain additions of frames into each reader; a reduction is computed once.
    return jnp.add(*sum_each(tuple(jnp.split(x, 2, 1)), 1))


def _gate_gradients(dmean_gate: Array, axes: Axes) -> Planes:
    """The gradient of each gate from that of their mean."""
    return tuple(_gate_gradient(len(axes), dmean_gate, axis) for axis in axes)


def _gate_gradient(gate_count: int, dmean_gate: Array, axis: int) -> Plane:
    """The gradient of one of `gate_count` gates from that of their mean."""
    # On GPUs, an operation after a sum over H, W or C is a kernel of its own: scale before it.
    return jax.lax.platform_dependent(
        dmean_gate,
        cpu=lambda x: _sum_axis_on_cpus(x, axis) * (1 / gate_count),
        default=lambda x: (x * (1 / gate_count)).sum(axis),
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


def _pool_and_count_ties(
    x: Array, gates: Planes, gate_axes: Axes, axis: int
) -> tuple[Plane, Plane, Plane]:
    """Pools x times its gates as `pool_axes` does, and counts the elements equal to the maximum."""

    def on_cpus(x: Array, gates: Planes) -> tuple[Plane, Plane, Plane]:
        maximum, total, ties = maximum_sum_and_ties(_refine(x, gates, gate_axes), axis)
        return maximum, total / x.shape[axis], ties

    def elsewhere(x: Array, gates: Planes) -> tuple[Plane, Plane, Plane]:
        # Counting needs the maximum, so it cannot share a pass with the pools. XLA can fuse it with
        # a later pass that reads x and sums over this axis, such as a gate's gradient, but only if
        # counting has no operand but x in common with earlier passes. So it reads gates and maximum
        # from behind a barrier of its own (docs/experiments.md, "H100, pools: ties counted by a
        # reduction"). The barrier around maximum and mean keeps these two in one pass.
        maximum, mean = jax.lax.optimization_barrier(
            _maximum_and_mean(_refine(x, gates, gate_axes), axis)
        )
        gates, maximum_again = jax.lax.optimization_barrier((gates, maximum))
        z = _refine(x, gates, gate_axes)
        is_maximum = (z == jnp.expand_dims(maximum_again, axis)).astype(z.dtype)
        return maximum, mean, jax.lax.optimization_barrier(is_maximum.sum(axis))

    return jax.lax.platform_dependent(x, gates, cpu=on_cpus, default=elsewhere)


def _apply_gates_forward(x: Array, gates: Planes, axes: Axes) -> tuple[Array, tuple[Array, Planes]]:
    return apply_gates(x, gates, axes), (x, gates)


def apply_gates_backward(
    axes: Axes, saved: tuple[Array, Planes], dy: Array
) -> tuple[Array, Planes]:
    """The gradients of `apply_gates`' x and gates, which are `saved`."""
    x, gates = saved
    dx = _refine(dy, gates, axes).astype(x.dtype)
    return dx, _gate_gradients(at_least_float32(dy) * at_least_float32(x), axes)


@functools.partial(jax.jit, static_argnums=(2, 3))
def pool_axes_and_count_ties(
    x: Array, gates: Planes, gate_axes: Axes, axes: Axes
) -> tuple[tuple[Plane, Plane, Plane], ...]:
    """Does what `pool_axes` does, and counts the elements that equal each maximum."""
    return tuple(_pool_and_count_ties(x, gates, gate_axes, axis) for axis in axes)


def _pool_axes_forward(
    x: Array, gates: Planes, gate_axes: Axes, axes: Axes
) -> tuple[Pools, tuple[Array, Planes, Pools]]:
    results = pool_axes_and_count_ties(x, gates, gate_axes, axes)
    pools = tuple((maximum, mean) for maximum, mean, _ in results)
    return pools, (x, gates, tuple((maximum, ties) for maximum, _, ties in results))


@functools.partial(jax.jit, static_argnums=(0, 1))
def pool_axes_backward(
    gate_axes: Axes, axes: Axes, saved: tuple[Array, Planes, Pools], dpools: Pools
) -> tuple[Array, Planes]:
    """The gradients of `pool_axes`' x and gates.

    Args:
        gate_axes, axes: as there.
        saved: x, its gates, and for each of `axes` the maximum and the number of its ties.
        dpools: for each of `axes` the gradients of maximum and mean.
    """

    def gradient(
        barrier: Callable[[Any], Any], x: Array, gates: Planes, planes: tuple[Planes, ...]
    ) -> tuple[Array, Planes]:
        """Gradients of x and gates; `barrier` is called on gates and planes before each pass."""

        def dz() -> Array:
            """The gradient of z, the product of x and the mean gate that was pooled."""
            z = _refine(x, gates, gate_axes)
            total = jnp.zeros((), z.dtype)
            for axis, triple in zip(axes, planes, strict=True):
                maximum, dmaximum, dmean = (jnp.expand_dims(plane, axis) for plane in triple)
                total += jnp.where(z == maximum, dmaximum, 0) + dmean
            return total

        dgates = []
        for axis in gate_axes:
            gates, planes = barrier((gates, planes))
            dgates.append(_gate_gradient(len(gates), dz() * at_least_float32(x), axis))
        gates, planes = barrier((gates, planes))
        return _refine(dz(), gates, gate_axes).astype(x.dtype), tuple(dgates)

    def on_cpus(*operands: Any) -> tuple[Array, Planes]:
        # z and the masks of its maxima could be computed in the forward pass already. XLA would
        # then store them until here; the barrier and the call keep it from doing so.
        return materialize(
            functools.partial(gradient, lambda planes: planes),
            *jax.lax.optimization_barrier(operands),
        )

    x, gates, maxima = saved
    # For each axis: the maximum, the gradient that each element equal to it gets, and the gradient
    # that every element gets. Equal maxima share the gradient, as in JAX's own reduce-max.
    planes = tuple(
        (maximum, dmaximum / ties, dmean / x.shape[axis])
        for axis, (maximum, ties), (dmaximum, dmean) in zip(axes, maxima, dpools, strict=True)
    )
    # On other backends the gradient may be fused: gradients of several pools are then added up as
    # they are computed. But XLA would compute what two passes have in common (dz) once and store
    # it in the feature's size. Planes behind a barrier of its own make each pass compute dz
    # (docs/experiments.md, "H100, pools' gradient: no barrier").
    return jax.lax.platform_dependent(
        x,
        gates,
        planes,
        cpu=on_cpus,
        default=functools.partial(gradient, jax.lax.optimization_barrier),
    )


apply_gates.defvjp(_apply_gates_forward, apply_gates_backward)
pool_axes.defvjp(_pool_axes_forward, pool_axes_backward)
