"""Pools and gates (`gating.py`) of a feature whose frames a mesh splits over its axis `time`.

Each device pools the frames that it holds, and multiplies them by the gates. A plane that keeps T
is split along T, as the feature is. A plane pooled over T would be whole on every device, and so
would its stencil, the largest one. It is split along C: each device pools its own frames, devices
exchange shares of these pools, and each combines one share of the channels. Where they cannot share
the channels equally every device combines all.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from aia_jax.ops.axis_attention import gating
from aia_jax.ops.axis_attention.gating import Axes, Planes, Pools
from aia_jax.ops.frames import CLIPS, time_parts
from aia_jax.ops.stencil.on_mesh import plane_spec
from aia_jax.shapes import Array, Float

_T, _C = 1, 4  # axes of [B, T, H, W, C]
_C_OF_PLANE = 3  # C of a plane pooled over T, [B, H, W, C]


def split_axis(channels: int, pooled: int) -> int | None:
    """The axis along which a plane of a feature is split over `time`.

    Args:
        channels: C of the feature.
        pooled: the axis of [B, T, H, W, C] that was pooled.

    Returns:
        The axis of the plane; None if every device along `time` has the whole plane.
    """
    if pooled != _T:
        return 1  # T of the plane
    return _C_OF_PLANE if channels % time_parts() == 0 else None


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def apply_gates(
    x: Float[Array, "b t h w c"], gates: Planes, axes: Axes
) -> Float[Array, "b t h w c"]:
    """Does what `gating.apply_gates` does, with gates that lie as `split_axis` says."""

    def apply_to_own_frames(x: Array, gates: Planes) -> Array:
        return gating.apply_gates(x, _gather(x, gates, axes), axes)

    return _on_devices(apply_to_own_frames, (CLIPS, _specs(x, axes)), CLIPS)(x, gates)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def pool_axes(x: Float[Array, "b t h w c"], gates: Planes, gate_axes: Axes, axes: Axes) -> Pools:
    """Does what `gating.pool_axes` does, with planes that lie as `split_axis` says."""
    return _pool(gating.pool_axes, x, gates, gate_axes, axes)


def _apply_gates_forward(x: Array, gates: Planes, axes: Axes) -> tuple[Array, tuple[Array, Planes]]:
    return apply_gates(x, gates, axes), (x, gates)


def _apply_gates_backward(
    axes: Axes, saved: tuple[Array, Planes], dy: Array
) -> tuple[Array, Planes]:
    def gradient(x: Array, gates: Planes, dy: Array) -> tuple[Array, Planes]:
        saved = x, _gather(x, gates, axes)
        dx, dgates = gating.apply_gates_backward(axes, saved, dy)
        return dx, _sum_over_time(dgates, axes)

    specs = _specs(dy, axes)
    return _on_devices(gradient, (CLIPS, specs, CLIPS), (CLIPS, specs))(*saved, dy)


def _pool_axes_forward(
    x: Array, gates: Planes, gate_axes: Axes, axes: Axes
) -> tuple[Pools, tuple[Array, Planes, Pools]]:
    results = _pool(gating.pool_axes_and_count_ties, x, gates, gate_axes, axes)
    pools = tuple((maximum, mean) for maximum, mean, _ in results)
    return pools, (x, gates, tuple((maximum, ties) for maximum, _, ties in results))


def _pool_axes_backward(
    gate_axes: Axes, axes: Axes, saved: tuple[Array, Planes, Pools], dpools: Pools
) -> tuple[Array, Planes]:
    def gradient(x: Array, gates: Planes, maxima: Pools, dpools: Pools) -> tuple[Array, Planes]:
        maxima, dpools = (
            tuple(_gather(x, pair, (axis, axis)) for pair, axis in zip(pairs, axes, strict=True))
            for pairs in (maxima, dpools)
        )
        # `pool_axes_backward` divides by the frames that it sees, the device's own.
        parts = jax.lax.axis_size("time")
        dpools = tuple(
            (dmaximum, dmean / parts if axis == _T else dmean)
            for (dmaximum, dmean), axis in zip(dpools, axes, strict=True)
        )
        saved = x, _gather(x, gates, gate_axes), maxima
        dx, dgates = gating.pool_axes_backward(gate_axes, axes, saved, dpools)
        return dx, _sum_over_time(dgates, gate_axes)

    x = saved[0]
    gate_specs, pair_specs = _specs(x, gate_axes), _specs(x, axes)
    in_specs = (CLIPS, gate_specs, pair_specs, pair_specs)
    return _on_devices(gradient, in_specs, (CLIPS, gate_specs))(*saved, dpools)


apply_gates.defvjp(_apply_gates_forward, _apply_gates_backward)
pool_axes.defvjp(_pool_axes_forward, _pool_axes_backward)


def _on_devices(
    function: Callable[..., Any], in_specs: tuple[Any, ...], out_specs: Any
) -> Callable[..., Any]:
    """Runs a function on what each device holds."""
    # JAX need not follow what differs between devices: it differentiates none of these functions.
    return jax.shard_map(function, in_specs=in_specs, out_specs=out_specs, check_vma=False)


def _specs(x: Array, axes: Axes) -> tuple[PartitionSpec, ...]:
    """How planes of x lie on the mesh that are pooled over these axes."""
    return tuple(plane_spec(split_axis(x.shape[_C], axis)) for axis in axes)


def _pool(
    pool: Callable[..., tuple[Planes, ...]], x: Array, gates: Planes, gate_axes: Axes, axes: Axes
) -> Any:
    """Pools a feature: `pool` the frames of each device, then over devices where T is pooled."""

    def pool_own_frames(x: Array, gates: Planes) -> tuple[Planes, ...]:
        results = pool(x, _gather(x, gates, gate_axes), gate_axes, axes)
        return tuple(
            _combine(*result) if axis == _T else result
            for result, axis in zip(results, axes, strict=True)
        )

    specs = CLIPS, _specs(x, gate_axes)
    return _on_devices(pool_own_frames, specs, _specs(x, axes))(x, gates)


def _combine(*planes: Array) -> Planes:
    """Combines maximum, mean and (if given) ties over the frames of each device: over all frames.

    Args:
        planes: whole planes [b, h, w, c].

    Returns:
        The same, of a share of the channels where they can be shared.
    """
    parts = jax.lax.axis_size("time")
    stacked = jnp.stack(planes)
    if planes[0].shape[_C_OF_PLANE] % parts:
        stacked = jax.lax.all_gather(stacked, "time")
    else:
        shares = stacked.reshape(*stacked.shape[:-1], parts, -1)
        stacked = jax.lax.all_to_all(shares, "time", split_axis=shares.ndim - 2, concat_axis=0)
    # Now the first axis is the devices.
    maxima, means, *ties = jnp.moveaxis(stacked, 1, 0)
    maximum = maxima.max(0)
    return maximum, means.mean(0), *(jnp.where(maxima == maximum, n, 0).sum(0) for n in ties)


def _gather(x: Array, planes: Planes, axes: Axes) -> Planes:
    """Makes planes that are pooled over T whole on every device."""
    return tuple(
        jax.lax.all_gather(plane, "time", axis=_C_OF_PLANE, tiled=True)
        if axis == _T and plane.shape[_C_OF_PLANE] < x.shape[_C]
        else plane
        for plane, axis in zip(planes, axes, strict=True)
    )


def _sum_over_time(planes: Planes, axes: Axes) -> Planes:
    """Sums planes that are pooled over T over devices; each keeps its share of the channels."""

    def total(plane: Array) -> Array:
        if plane.shape[_C_OF_PLANE] % jax.lax.axis_size("time"):
            return jax.lax.psum(plane, "time")
        return jax.lax.psum_scatter(plane, "time", scatter_dimension=_C_OF_PLANE, tiled=True)

    return tuple(
        total(plane) if axis == _T else plane for plane, axis in zip(planes, axes, strict=True)
    )
