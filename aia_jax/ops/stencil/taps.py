"""The stencil as 54 shifted multiply-adds (taps) in XLA's operations, with its gradient.

GPUs and TPUs run this form. CPUs run it in evaluation, and in training for planes of many rows.
"""

import functools
import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from aia_jax.ops.xla_fusion import at_least_float32, materialize
from aia_jax.shapes import Array, Float

Plane = Float[Array, "b i j k"]
Kernel = Float[Array, "3 3 3 2"]
Pad = Callable[[tuple[Plane, ...]], tuple[Array, ...]]

_SHIFTS = tuple(itertools.product(range(3), repeat=3))  # along i, j and k
_INNER_SHIFTS = tuple(itertools.product(range(3), repeat=2))  # along j and k

# The taps are added up in this many separate sums, which are added at the end. In a single sum the
# processor would wait for each addition before it begins the next (docs/experiments.md, "Stencil:
# taps in one sum").
_SUMS = 4


def pad_rings(planes: tuple[Plane, ...]) -> tuple[Array, ...]:
    """Surrounds i, j and k of planes with a ring of zeros, so that every tap is a slice."""
    return tuple(jnp.pad(plane, ((0, 0), (1, 1), (1, 1), (1, 1))) for plane in planes)


def stencil_by_taps(maximum: Plane, mean: Plane, kernel: Kernel, pad: Pad = pad_rings) -> Plane:
    """Computes `stencil` as 54 multiply-adds.

    Args:
        pad: surrounds planes with what lies beyond their edges.
    """
    planes = at_least_float32(maximum), at_least_float32(mean)
    return correlate_by_taps(planes, kernel[..., None], pad)[0]


def stencil_gradient_by_taps(
    dy: Plane, maximum: Plane, mean: Plane, kernel: Kernel, pad: Pad = pad_rings
) -> tuple[Plane, Plane, Kernel]:
    """Computes the gradients of maximum, mean and kernel from `dy`, the gradient of their stencil.

    Args:
        dy, maximum, mean: float32 or float64.
        pad: as in `stencil_by_taps`.
    """
    dplanes = correlate_by_taps((dy,), flip_kernel(kernel), pad)
    return *dplanes, _kernel_gradient(dy, maximum, mean, pad)


# Traced once for each shape, and one program instead of hundreds without a caller's jit.
@functools.partial(jax.jit, static_argnums=2)
def correlate_by_taps(
    planes: tuple[Plane, ...], kernels: Float[Array, "3 3 3 p q"], pad: Pad = pad_rings
) -> tuple[Plane, ...]:
    """Correlates p planes with p · q kernels: result q sums plane p with kernels[..., p, q] over p.

    Beyond the edges planes are what `pad` says.
    """
    # Batch statistics, the gate and gradients read the sums, and CPUs would compute all taps for
    # each of them. On other backends there is one reader, or a barrier before the readers.
    return materialize(_sum_taps, pad(planes), kernels)


def flip_kernel(kernel: Kernel) -> Float[Array, "3 3 3 1 2"]:
    """The kernels from one plane to two: correlated with them, dy gives dmaximum and dmean."""
    return kernel[::-1, ::-1, ::-1, None]


def _sum_taps(padded: tuple[Array, ...], kernels: Array) -> tuple[Array, ...]:
    # Written in `lax`: taps are most of the operations of a network with attention, and JAX traces
    # `lax` twice as fast as indexing and operators.
    batch, i, j, k = (size - 2 * (axis > 0) for axis, size in enumerate(padded[0].shape))
    planes, results = kernels.shape[3:]
    sums: list[list[Array]] = [[] for _ in range(results)]
    for n, (p, (a, b, c)) in enumerate(itertools.product(range(planes), _SHIFTS)):
        shifted = jax.lax.slice(padded[p], (0, a, b, c), (batch, a + i, b + j, c + k))
        for q in range(results):
            weight = jax.lax.slice(kernels, (a, b, c, p, q), (a + 1, b + 1, c + 1, p + 1, q + 1))
            tap = jax.lax.mul(shifted, jax.lax.broadcast(weight.reshape(()), shifted.shape))
            if n < _SUMS:
                sums[q].append(tap)
            else:
                sums[q][n % _SUMS] = jax.lax.add(sums[q][n % _SUMS], tap)
    return tuple(functools.reduce(jax.lax.add, partial_sums) for partial_sums in sums)


@functools.partial(jax.jit, static_argnums=3)
def _kernel_gradient(dy: Plane, maximum: Plane, mean: Plane, pad: Pad) -> Kernel:
    """Inner products of `dy` with every shift of the two planes.

    The products of one shift along i are one reduction, so that it reads the planes once; with more
    products in one reduction XLA would write them to memory. The reduction sums over j and k only.
    The sum over clips comes last: on a mesh each device sums its own clips, and only 54 numbers are
    summed over devices.
    """
    i, j, k = dy.shape[1:]
    padded = pad((maximum, mean))

    def sums_at_shift(a: int) -> list[Array]:
        """The sums over j and k, [b, i] each, of all products with planes shifted by a along i."""
        products = [
            dy * plane[:, a : a + i, b : b + j, c : c + k]
            for b, c in _INNER_SHIFTS
            for plane in padded
        ]
        zeros = [jnp.zeros((), dy.dtype)] * len(products)
        return jax.lax.reduce(products, zeros, lambda x, y: list(map(jnp.add, x, y)), (2, 3))

    sums = jnp.stack([each for a in range(3) for each in sums_at_shift(a)], -1)  # [b, i, 54]
    return sums.sum((0, 1)).reshape(3, 3, 3, 2)
