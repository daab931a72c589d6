"""Axis attention in XLA's operations: pools, stencils, batch normalisation, gates."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from aia_jax.ops.axis_attention import gating, gating_on_mesh
from aia_jax.ops.axis_attention.units import EPSILON, UNITS
from aia_jax.ops.batch_norm import (
    group_count,
    normalize_batch_sigmoid,
    normalize_by_statistics,
    running_average,
)
from aia_jax.ops.frames import time_parts
from aia_jax.ops.stencil import stencil
from aia_jax.ops.stencil.on_mesh import stencil_on_mesh
from aia_jax.shapes import Array, Float

Variables = Mapping[str, Any]


def axis_attention(
    x: Float[Array, "b t h w c"],
    parameters: Variables,
    statistics: Variables,
    *,
    host: tuple[str, ...],
    guide: tuple[str, ...] = (),
    train: bool,
    bn_momentum: float = 0.9,
    bn_group_size: int = 0,
    relu: bool = False,
) -> tuple[Float[Array, "b t h w c"], Variables]:
    """Computes `aia_jax.ops.axis_attention`, which explains the arguments, on any backend."""
    gates, new_statistics = compute_gates(
        x,
        parameters,
        statistics,
        host=host,
        guide=guide,
        train=train,
        bn_momentum=bn_momentum,
        bn_group_size=bn_group_size,
    )
    form = gating_on_mesh if time_parts() > 1 else gating
    y = form.apply_gates(x, tuple(gates[unit] for unit in host), _axes(host))
    return jax.nn.relu(y) if relu else y, new_statistics


def compute_gates(
    x: Float[Array, "b t h w c"],
    parameters: Variables,
    statistics: Variables,
    *,
    host: tuple[str, ...],
    guide: tuple[str, ...] = (),
    train: bool,
    bn_momentum: float = 0.9,
    bn_group_size: int = 0,
) -> tuple[dict[str, Float[Array, "b _ _ _"]], Variables]:
    """Computes the gates of a module; the arguments are those of `axis_attention`.

    Returns:
        The gate of each unit, in float32 (float64 for a float64 feature), without the pooled axis;
        and the statistics, as `axis_attention` returns them.
    """
    new_statistics = dict(statistics)
    form = gating_on_mesh if time_parts() > 1 else gating

    def correlate(pooled: int, *operands: Array) -> Array:
        if form is gating:
            return stencil(*operands)
        return stencil_on_mesh(*operands, gating_on_mesh.split_axis(x.shape[-1], pooled))

    def side_by_side(
        units: tuple[str, ...], gates: tuple[Array, ...], gate_axes: tuple[int, ...]
    ) -> tuple[Array, ...]:
        """The gates of units, computed from x times the mean of `gates`."""
        pools = form.pool_axes(x, gates, gate_axes, _axes(units))
        results = []
        for unit, (maximum, mean) in zip(units, pools, strict=True):
            kernel = parameters[unit]["conv"]["kernel"].transpose(*UNITS[unit].kernel_order, 3)
            kernel = kernel.astype(jnp.promote_types(maximum.dtype, jnp.float32))
            gate, new = _normalize_and_squash(
                correlate(UNITS[unit].axis, maximum, mean, kernel),
                parameters[unit]["bn"],
                statistics[unit]["bn"],
                train=train,
                bn_momentum=bn_momentum,
                bn_group_size=bn_group_size,
            )
            results.append(gate)
            new_statistics[unit] = {"bn": new}
        return tuple(results)

    guide_gates = side_by_side(guide, (), ()) if guide else ()
    host_gates = side_by_side(host, guide_gates, _axes(guide))
    gates = zip((*guide, *host), (*guide_gates, *host_gates), strict=True)
    return dict(gates), new_statistics


def _axes(units: tuple[str, ...]) -> tuple[int, ...]:
    return tuple(UNITS[unit].axis for unit in units)


def _normalize_and_squash(
    response: Float[Array, "b i j k"],
    parameters: Variables,
    statistics: Variables,
    *,
    train: bool,
    bn_momentum: float,
    bn_group_size: int,
) -> tuple[Float[Array, "b i j k"], Variables]:
    """A unit's gate and its new running statistics: sigmoid(BN(response)) (paper, Eqs. 5-8).

    The batch normalisation is the reference's; the paper mentions it in section IV-B only.
    """
    scale, bias = parameters["scale"], parameters["bias"]
    response = response[..., None]
    if train:
        groups = group_count(response.shape[0], bn_group_size)
        gate, mean, var = normalize_batch_sigmoid(response, scale, bias, groups, EPSILON)
        statistics = {
            "mean": running_average(statistics["mean"], mean, bn_momentum),
            "var": running_average(statistics["var"], var, bn_momentum),
        }
    else:
        mean, var = statistics["mean"], statistics["var"]
        normalized = normalize_by_statistics(response, mean, var, scale, bias, EPSILON)
        gate = jax.nn.sigmoid(normalized.astype(response.dtype))
    # A gate is small, and each of its elements is read many times. The barrier keeps XLA from
    # computing it anew for each reader.
    return jax.lax.optimization_barrier(gate[..., 0]), statistics
