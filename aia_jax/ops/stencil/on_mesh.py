"""The stencil of planes that devices along the mesh axis `time` share.

Each device computes its own part of every plane. Neighbours exchange the first and last positions
of their parts, and the devices add up their gradients of the kernel.
"""

import functools

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from aia_jax.ops.frames import exchange_borders
from aia_jax.ops.stencil.taps import (
    Kernel,
    Plane,
    pad_rings,
    stencil_by_taps,
    stencil_gradient_by_taps,
)
from aia_jax.ops.xla_fusion import at_least_float32
from aia_jax.shapes import Array
from aia_jax.sharding import AXES, ROW_AXES

__all__ = ["plane_spec", "stencil_on_mesh"]

_WHOLE = PartitionSpec()


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def stencil_on_mesh(maximum: Plane, mean: Plane, kernel: Kernel, axis: int | None) -> Plane:
    """Computes `aia_jax.ops.stencil` of planes that are split over `time`.

    Args:
        maximum, mean, kernel: as there.
        axis: the axis along which the planes are split, 1 to 3 for i to k. None: every device along
            `time` has whole planes, and computes all of them.
    """
    spec = plane_spec(axis)

    def correlate(maximum: Array, mean: Array, kernel: Array) -> Array:
        return stencil_by_taps(maximum, mean, kernel, _PADS[axis])

    in_specs = (spec, spec, _WHOLE)
    mapped = jax.shard_map(correlate, in_specs=in_specs, out_specs=spec, check_vma=False)
    return mapped(maximum, mean, kernel)


def plane_spec(axis: int | None) -> PartitionSpec:
    """How planes [B, i, j, k] lie on the mesh; `axis` as in `stencil_on_mesh`."""
    return PartitionSpec(ROW_AXES, *("time" if n == axis else None for n in (1, 2, 3)))


def _forward(
    maximum: Array, mean: Array, kernel: Array, axis: int | None
) -> tuple[Array, tuple[Array, Array, Array]]:
    return stencil_on_mesh(maximum, mean, kernel, axis), (maximum, mean, kernel)


def _backward(
    axis: int | None, saved: tuple[Array, Array, Array], dy: Array
) -> tuple[Array, Array, Array]:
    spec = plane_spec(axis)

    def gradient(
        dy: Array, maximum: Array, mean: Array, kernel: Array
    ) -> tuple[Array, Array, Array]:
        operands = map(at_least_float32, (dy, maximum, mean, kernel))
        dmaximum, dmean, dkernel = stencil_gradient_by_taps(*operands, _PADS[axis])
        # Devices with whole planes have computed the same sums.
        dkernel = jax.lax.psum(dkernel, ROW_AXES if axis is None else AXES)
        return dmaximum.astype(maximum.dtype), dmean.astype(mean.dtype), dkernel

    specs = (spec, spec, spec, _WHOLE), (spec, spec, _WHOLE)
    mapped = jax.shard_map(gradient, in_specs=specs[0], out_specs=specs[1], check_vma=False)
    return mapped(dy, *saved)


stencil_on_mesh.defvjp(_forward, _backward)


def _pad_with_borders(planes: tuple[Array, ...], axis: int | None) -> tuple[Array, ...]:
    """Surrounds a device's part of planes: along `axis` by the neighbours' borders, else by zeros.

    Beyond the ends of the whole planes there are zeros, too.
    """
    if axis is None:
        return pad_rings(planes)
    stacked, axis = jnp.stack(planes), axis + 1
    first = jax.lax.slice_in_dim(stacked, 0, 1, axis=axis)
    last = jax.lax.slice_in_dim(stacked, -1, None, axis=axis)
    following, preceding = exchange_borders(first, last)
    stacked = jnp.concatenate([preceding, stacked, following], axis)
    padding = [(int(n > 1 and n != axis),) * 2 for n in range(stacked.ndim)]
    return tuple(jnp.pad(stacked, padding))


# JAX traces the taps once for each of these functions.
_PADS = {axis: functools.partial(_pad_with_borders, axis=axis) for axis in (None, 1, 2, 3)}
