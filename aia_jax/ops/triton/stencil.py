"""The stencil and its gradient on CUDA: kernels that every device of a mesh runs on its clips."""

import functools

import jax

from aia_jax.ops.triton.partition import partition_over_clips
from aia_jax.ops.triton.stencil_gradient_kernel import stencil_gradient_kernel
from aia_jax.ops.triton.stencil_grid import divide_for_stencil
from aia_jax.ops.triton.stencil_kernel import stencil_kernel
from aia_jax.shapes import Array, Float

Plane = Float[Array, "b i j k"]
Kernel = Float[Array, "3 3 3 2"]


def stencil(maximum: Plane, mean: Plane, kernel: Kernel) -> Plane:
    """Computes `aia_jax.ops.stencil` of planes of at most 32 bits an element; float32."""
    return partition_over_clips(_stencil, [4], num_replicated=1)(maximum, mean, kernel)[0]


def stencil_with_sums(
    maximum: Plane, mean: Plane, kernel: Kernel
) -> tuple[Plane, Float[Array, "b n 2"]]:
    """Computes the stencil, and partial sums of each clip's response and of its square.

    There are n = `num_partial_sums` of both.
    """
    return partition_over_clips(_stencil_with_sums, [4, 3], num_replicated=1)(maximum, mean, kernel)


def num_partial_sums(shape: tuple[int, ...]) -> int:
    """Counts the partial sums of each clip in `stencil_with_sums`, for planes of a shape."""
    division = divide_for_stencil(shape)
    return division.programs_per_row * division.chunks


def stencil_gradient(
    dresponse: Plane,
    maximum: Plane,
    mean: Plane,
    kernel: Kernel,
    ties: Plane | None = None,
    mean_factor: float = 1.0,
) -> tuple[Plane, Plane, Kernel]:
    """Computes the gradients of maximum, mean and kernel from that of their stencil, `dresponse`.

    Args:
        dresponse, maximum, mean: finite, at most 32 bits an element.
        kernel: float32.
        ties: what dmaximum is divided by; None: nothing.
        mean_factor: what dmean is multiplied by.

    Returns:
        dmaximum and dmean in maximum's dtype, dkernel in float32.
    """
    planes = [dresponse, maximum, mean] + ([] if ties is None else [ties])

    def gradient_of_clips(*operands: Array) -> tuple[Array, Array, Array]:
        dresponse, maximum, mean, *ties, kernel = operands
        return _stencil_gradient(
            dresponse, maximum, mean, kernel, ties[0] if ties else None, mean_factor
        )

    partitioned = partition_over_clips(gradient_of_clips, [4, 4, 5], num_replicated=1)
    dmaximum, dmean, dkernels = partitioned(*planes, kernel)
    return dmaximum, dmean, dkernels.sum(0)


# Each of these functions is a jit, so that it is traced once for each shape.


@jax.jit
def _stencil(maximum: Array, mean: Array, kernel: Array) -> tuple[Array]:
    return stencil_kernel(maximum, mean, kernel, with_sums=False)


@jax.jit
def _stencil_with_sums(maximum: Array, mean: Array, kernel: Array) -> tuple[Array, Array]:
    return stencil_kernel(maximum, mean, kernel, with_sums=True)


@functools.partial(jax.jit, static_argnames="mean_factor")
def _stencil_gradient(
    dresponse: Array,
    maximum: Array,
    mean: Array,
    kernel: Array,
    ties: Array | None,
    mean_factor: float,
) -> tuple[Array, Array, Array]:
    return stencil_gradient_kernel(dresponse, maximum, mean, kernel, ties, mean_factor)
