"""Axis attention in Triton kernels: the form that `aia_jax.ops.axis_attention` runs on CUDA.

This file turns the units' parameters into functions from pools to gates. `module_passes.py` runs
them between its passes over the feature.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from aia_jax.ops.axis_attention.units import EPSILON, UNITS
from aia_jax.ops.batch_norm import group_count, normalize_by_statistics, running_average
from aia_jax.ops.stencil import stencil
from aia_jax.ops.triton.axis_gate import axis_gate
from aia_jax.ops.triton.module_passes import refine_feature
from aia_jax.shapes import Array, Float

Variables = Mapping[str, Any]
Pool = tuple[Array, Array, Array | None]  # maximum, mean, ties (None if no gradient is needed)


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
    """Computes `aia_jax.ops.axis_attention`, which explains the arguments.

    Planes (pools and gates) have x's dtype, where XLA's form has them in float32.

    Args:
        x: float32 or less, at most `MAX_FRAMES` frames.
    """

    def compute_gates(
        units: tuple[str, ...], variables: tuple[Variables, Variables], pools: Sequence[Pool]
    ) -> tuple[tuple[Array, ...], dict[str, Any]]:
        parameters, statistics = variables
        gates, new_statistics = [], {}
        for unit, pool in zip(units, pools, strict=True):
            kernel = parameters[unit]["conv"]["kernel"].transpose(*UNITS[unit].kernel_order, 3)
            bn_parameters, bn_statistics = parameters[unit]["bn"], statistics[unit]["bn"]
            length = x.shape[UNITS[unit].axis]
            if train:
                gate, bn_statistics = _gate_in_training(
                    pool, length, kernel, bn_parameters, bn_statistics, bn_momentum, bn_group_size
                )
            else:
                gate = _gate_in_evaluation(pool, length, kernel, bn_parameters, bn_statistics)
            gates.append(gate.astype(x.dtype))
            new_statistics[unit] = {"bn": bn_statistics}
        return tuple(gates), new_statistics

    def select(variables: Variables, units: tuple[str, ...]) -> dict[str, Any]:
        return {unit: variables[unit] for unit in units}

    y, auxiliary = refine_feature(
        tuple(functools.partial(compute_gates, units) for units in (guide, host)),
        tuple(tuple(UNITS[unit].axis for unit in units) for units in (guide, host)),
        relu,
        x,
        tuple((select(parameters, units), select(statistics, units)) for units in (guide, host)),
    )
    if not train:
        return y, statistics
    guide_statistics, host_statistics = auxiliary
    return y, {**(guide_statistics or {}), **host_statistics}


def _gate_in_training(
    pool: Pool,
    length: int,
    kernel: Float[Array, "3 3 3 2"],
    parameters: Variables,
    statistics: Variables,
    bn_momentum: float,
    bn_group_size: int,
) -> tuple[Float[Array, "b i j k"], Variables]:
    """A unit's gate and its new running statistics.

    Args:
        length: size of the pooled axis.
        kernel: its first three axes run along those of the planes.
    """
    maximum, mean, ties = pool
    groups = group_count(maximum.shape[0], bn_group_size)
    scale, bias = parameters["scale"], parameters["bias"]
    gate, *batch_statistics = axis_gate(
        maximum, mean, ties, kernel, scale, bias, length, groups, EPSILON
    )
    new_statistics = {
        name: running_average(statistics[name], group_values, bn_momentum)
        for name, group_values in zip(("mean", "var"), batch_statistics, strict=True)
    }
    return gate, new_statistics


def _gate_in_evaluation(
    pool: Pool,
    length: int,
    kernel: Float[Array, "3 3 3 2"],
    parameters: Variables,
    statistics: Variables,
) -> Float[Array, "b i j k"]:
    """A unit's gate by its running statistics; the stencil is a kernel, XLA does the rest."""
    maximum, mean, ties = pool
    if ties is not None:
        maximum, mean = divide_gradients(maximum, mean, ties, length)
    kernel = kernel.astype(jnp.promote_types(maximum.dtype, jnp.float32))
    normalized = normalize_by_statistics(
        stencil(maximum, mean, kernel)[..., None],
        statistics["mean"],
        statistics["var"],
        parameters["scale"],
        parameters["bias"],
        EPSILON,
    )
    # A gate is small, and each of its elements is read many times. The barrier keeps XLA from
    # computing it anew for each reader.
    return jax.lax.optimization_barrier(jax.nn.sigmoid(normalized)[..., 0])


@jax.custom_vjp
def divide_gradients(
    maximum: Array, mean: Array, ties: Array, length: int | Array
) -> tuple[Array, Array]:
    """Returns maximum and mean, with the gradients that one element of the pooled axis gets.

    Args:
        ties: how many elements equal the maximum; divides the gradient of maximum.
        length: of the pooled axis; divides the gradient of mean.
    """
    return maximum, mean


divide_gradients.defvjp(
    lambda maximum, mean, ties, length: ((maximum, mean), (ties, length)),
    lambda saved, gradients: (gradients[0] / saved[0], gradients[1] / saved[1], None, None),
)
