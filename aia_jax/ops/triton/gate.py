"""A unit's gates on NVIDIA GPUs: stencil, batch normalisation by the batch's statistics, sigmoid
(paper, Eqs. 5-8), in few kernels.

Planes are small and kernels short, so what a step of many units costs is how many it starts. The
statistics' sums come out of the stencil's kernel, and what XLA would compute of single numbers in
kernels of their own is computed where it is needed.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from aia_jax.ops.stencil.stencil import by_taps, gradient_by_taps
from aia_jax.ops.triton import stencil_kernel as gpu_stencil
from aia_jax.ops.triton.availability import triton as plt
from aia_jax.ops.triton.by_clips import by_clips
from aia_jax.ops.xla_fusion import wide
from aia_jax.shapes import Array, Float

_THREADS = 256
_AT_ONCE = 4  # numbers of a thread that are on their way from memory together
_ROUNDS = 4  # of so many, for a program's two sums

Plane = Float[Array, "b i j k"]
Moments = tuple[
    Array, Array
]  # the means, over a group, of a value and of its square or of another product


@functools.partial(jax.custom_vjp, nondiff_argnums=(6, 7, 8))
def gate(
    maximum: Plane,
    mean: Plane,
    ties: Plane | None,
    kernel: Float[Array, "3 3 3 2"],
    scale: Float[Array, " 1"],
    bias: Float[Array, " 1"],
    length: int,
    groups: int,
    epsilon: float,
) -> tuple[Plane, Float[Array, "g 1"], Float[Array, "g 1"]]:
    """The sigmoid of the normalised correlation of a pooled pair, of its dtype, and each group's
    mean and (biased) variance in float32.

    The gradients of maximum and mean are those of one element: of the maximum divided by ties, of
    the mean by length.

    Args:
        maximum, mean, kernel: as `stencil` takes them; the pair may be of half precision.
        ties: how many elements equal the maximum, for the gradient.
        scale, bias: of the normalisation.
        length: of the axis that is pooled.
        groups: of clips, each normalised by its own statistics.
        epsilon: added to the variance.
    """
    return _forward(maximum, mean, ties, kernel, scale, bias, length, groups, epsilon)[0]


@functools.partial(jax.jit, static_argnums=(6, 7, 8))
def _forward(
    maximum: Array,
    mean: Array,
    ties: Array | None,
    kernel: Array,
    scale: Array,
    bias: Array,
    length: int,
    groups: int,
    epsilon: float,
) -> tuple[tuple[Array, Array, Array], tuple[Any, ...]]:
    response, sums = _response_and_sums(maximum, mean, kernel)
    moments = _of_groups(sums, groups, response.size)
    gates = _by_moments(
        functools.partial(_gates, epsilon), (response,), (moments,), (scale, bias), maximum.dtype
    )
    return (gates, *_mean_and_variance(_pair(moments))), (
        maximum,
        mean,
        ties,
        kernel,
        scale,
        response,
        gates,
        moments,
    )


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _backward(
    length: int,
    groups: int,
    epsilon: float,
    saved: tuple[Any, ...],
    gradients: tuple[Array, Array, Array],
) -> tuple[Array | None, ...]:
    maximum, mean, ties, kernel, scale, response, gates, moments = saved
    of_gates = gradients[0]
    of_moments = _of_groups(_gradient_sums(of_gates, gates, response), groups, response.size)
    planes = (of_gates, gates, response)
    of_response = _by_moments(
        functools.partial(_of_response, epsilon),
        planes,
        (moments, of_moments),
        (scale,),
        maximum.dtype,
    )
    of_maximum, of_mean, of_kernel = _of_pair(of_response, maximum, mean, ties, kernel, 1 / length)
    of_scale, of_bias = _of_parameters(_pair(moments), _pair(of_moments), epsilon)
    count = response.size // groups
    return of_maximum, of_mean, None, of_kernel, of_scale.sum(0) * count, of_bias.sum(0) * count


gate.defvjp(_forward, _backward)


# The arithmetic, on planes or tiles of them. Normalisation's gradient is that of `normalization`,
# by means instead of sums.


def _mean_and_variance(moments: Moments) -> tuple[Array, Array]:
    return moments[0], jnp.maximum(0.0, moments[1] - moments[0] * moments[0])


def _gates(epsilon: float, response: Array, moments: Moments, scale: Array, bias: Array) -> Array:
    mean, variance = _mean_and_variance(moments)
    slope = jax.lax.rsqrt(variance + epsilon) * scale
    return jax.nn.sigmoid(response * slope + (bias - mean * slope))


def _through_sigmoid(of_gates: Array, gates: Array) -> Array:
    return of_gates * (gates * (1 - gates))


def _of_parameters(moments: Moments, of_moments: Moments, epsilon: float) -> tuple[Array, Array]:
    """Gradients of scale and bias, each divided by the number of elements."""
    mean, variance = _mean_and_variance(moments)
    of_bias, products = of_moments
    return (products - mean * of_bias) * jax.lax.rsqrt(variance + epsilon), of_bias


def _of_response(
    epsilon: float,
    of_gates: Array,
    gates: Array,
    response: Array,
    moments: Moments,
    of_moments: Moments,
    scale: Array,
) -> Array:
    mean, variance = _mean_and_variance(moments)
    of_scale, of_bias = _of_parameters(moments, of_moments, epsilon)
    inverse = jax.lax.rsqrt(variance + epsilon)
    slope = inverse * scale
    line = -inverse * slope * of_scale
    return (
        _through_sigmoid(of_gates, gates) * slope
        + response * line
        + (-slope * of_bias - line * mean)
    )


# Sums and planes.


def _of_groups(sums: Array, groups: int, size: int) -> Array:
    """Moments of each group, [g, 2], from two partial sums of each clip, [b, n, 2]."""
    return (
        (sums * (groups / size)).reshape(groups, -1, 2).sum(1)
    )  # what follows a sum would be a kernel of its own


def _pair(moments: Array) -> Moments:
    return moments[:, :1], moments[:, 1:]


def _response_and_sums(maximum: Array, mean: Array, kernel: Array) -> tuple[Array, Array]:
    def elsewhere(maximum: Array, mean: Array, kernel: Array) -> tuple[Array, Array]:
        response = by_taps(maximum, mean, kernel)
        return response, _first_of(
            response, jnp.square(response), gpu_stencil.sums_of_a_clip(response.shape)[1]
        )

    kernels = by_clips(gpu_stencil.correlate_and_sum, [4, 3], shared=1)
    return jax.lax.platform_dependent(maximum, mean, kernel, cuda=kernels, default=elsewhere)


def _of_pair(
    of_response: Array, maximum: Array, mean: Array, ties: Array, kernel: Array, mean_share: float
) -> tuple[Array, Array, Array]:
    def elsewhere(
        of_response: Array, maximum: Array, mean: Array, ties: Array, kernel: Array
    ) -> tuple[Array, Array, Array]:
        of_maximum, of_mean, of_kernel = gradient_by_taps(
            wide(of_response), wide(maximum), wide(mean), kernel
        )
        return (
            (of_maximum / ties).astype(maximum.dtype),
            (of_mean * mean_share).astype(mean.dtype),
            of_kernel,
        )

    def of_clips(
        of_response: Array, maximum: Array, mean: Array, ties: Array, kernel: Array
    ) -> tuple[Array, Array, Array]:
        return gpu_stencil.gradient(of_response, maximum, mean, kernel, ties, mean_share)

    def by_kernel(*operands: Array) -> tuple[Array, Array, Array]:
        of_maximum, of_mean, of_kernel = by_clips(of_clips, [4, 4, 5], shared=1)(*operands)
        return of_maximum, of_mean, of_kernel.sum(0)

    return jax.lax.platform_dependent(
        of_response, maximum, mean, ties, kernel, cuda=by_kernel, default=elsewhere
    )


def _gradient_sums(of_gates: Array, gates: Array, response: Array) -> Array:
    """Partial sums of what the sigmoid lets through, and of its product with the response, [b, n,
    2].
    """

    def elsewhere(of_gates: Array, gates: Array, response: Array) -> tuple[Array]:
        through = _through_sigmoid(wide(of_gates), wide(gates))
        return (
            _first_of(
                through,
                through * response,
                pl.cdiv(response[0].size, _THREADS * _AT_ONCE * _ROUNDS),
            ),
        )

    return jax.lax.platform_dependent(
        of_gates, gates, response, cuda=by_clips(sums_by_kernel, [3]), default=elsewhere
    )[0]


def _first_of(one: Array, other: Array, count: int) -> Array:
    """Sums of two planes as the first of so many partial sums, the rest zero."""
    sums = jnp.stack([one.sum((1, 2, 3)), other.sum((1, 2, 3))], -1)
    return jnp.pad(sums[:, None], ((0, 0), (0, count - 1), (0, 0)))


def _by_moments(
    function: Callable[..., Array],
    planes: tuple[Array, ...],
    moments: tuple[Array, ...],
    numbers: tuple[Array, ...],
    dtype: Any,
) -> Array:
    """A function of planes, element by element, of their groups' moments, [g, 2], and of single
    numbers, [1]; rounded to a dtype.
    """
    clips, groups = planes[0].shape[0], moments[0].shape[0]
    if groups > 1:
        moments = tuple(jnp.repeat(each, clips // groups, axis=0) for each in moments)
    p, m = len(planes), len(moments)

    def elsewhere(*operands: Array) -> tuple[Array]:
        stretched = [
            tuple(part[..., None, None] for part in _pair(each)) for each in operands[p : p + m]
        ]
        return (function(*map(wide, operands[:p]), *stretched, *operands[p + m :]).astype(dtype),)

    def in_a_kernel(*operands: Array) -> tuple[Array]:
        return (
            elementwise_by_kernel(
                function, operands[:p], operands[p : p + m], operands[p + m :], dtype
            ),
        )

    kernel = by_clips(in_a_kernel, [4], shared=len(numbers) + (m if groups == 1 else 0))
    return jax.lax.platform_dependent(*planes, *moments, *numbers, cuda=kernel, default=elsewhere)[
        0
    ]


# Kernels. A program has some consecutive elements of one clip.


def _places(program: Array, n: int | Array) -> list[Array]:
    """The n-th elements of a program's threads that are loaded at once."""
    first = (program * _ROUNDS + n) * _AT_ONCE * _THREADS
    return [first + m * _THREADS + jnp.arange(_THREADS, dtype=jnp.int32) for m in range(_AT_ONCE)]


def sums_by_kernel(
    of_gates: Array, gates: Array, response: Array, interpret: bool = False
) -> tuple[Array]:
    """What `_gradient_sums` says."""
    clips, size = response.shape[0], response[0].size
    programs = pl.cdiv(size, _THREADS * _AT_ONCE * _ROUNDS)

    def kernel(of_gates_ref: Any, gates_ref: Any, response_ref: Any, sums_ref: Any) -> None:
        clip, program = pl.program_id(1), pl.program_id(0)

        def add(n: Array, sums: tuple[Array, Array]) -> tuple[Array, Array]:
            refs = (of_gates_ref, gates_ref, response_ref)
            loaded = [
                [_load(ref, clip * size + place, place < size) for ref in refs]
                for place in _places(program, n)
            ]
            for of_gates, gates, response in loaded:
                through = _through_sigmoid(of_gates, gates)
                sums = sums[0] + through, sums[1] + through * response
            return sums

        zeros = jnp.zeros(_THREADS, jnp.float32)
        for n, total in enumerate(jax.lax.fori_loop(0, _ROUNDS, add, (zeros, zeros))):
            plt.store(sums_ref.at[2 * (clip * programs + program) + n], total.sum())

    result = jax.ShapeDtypeStruct((clips * programs * 2,), jnp.float32)
    sums = _call(kernel, (programs, clips), result, "gate_gradient_sums", interpret)(
        *(plane.reshape(-1) for plane in (of_gates, gates, response))
    )
    return (sums.reshape(clips, programs, 2),)


def elementwise_by_kernel(
    function: Callable[..., Array],
    planes: tuple[Array, ...],
    moments: tuple[Array, ...],
    numbers: tuple[Array, ...],
    dtype: Any,
    interpret: bool = False,
) -> Array:
    """What `_by_moments` says, with one pair of moments for all clips, [1, 2], or for each, [b, 2]."""
    clips, size = planes[0].shape[0], planes[0][0].size
    p, m = len(planes), len(moments)

    def kernel(*refs: Any) -> None:
        clip, program = pl.program_id(1), pl.program_id(0)
        first = 0 if moments[0].shape[0] == 1 else 2 * clip
        pairs = [(ref[first], ref[first + 1]) for ref in refs[p : p + m]]
        singles = [ref[0] for ref in refs[p + m : -1]]
        for n in range(_ROUNDS):
            places = _places(program, n)
            loaded = [
                [_load(ref, clip * size + place, place < size) for ref in refs[:p]]
                for place in places
            ]
            for place, values in zip(places, loaded, strict=True):
                plt.store(
                    refs[-1].at[clip * size + place],
                    function(*values, *pairs, *singles).astype(dtype),
                    mask=place < size,
                )

    operands = [operand.reshape(-1) for operand in (*planes, *moments, *numbers)]
    grid = (pl.cdiv(size, _THREADS * _AT_ONCE * _ROUNDS), clips)
    result = jax.ShapeDtypeStruct(operands[0].shape, dtype)
    return _call(kernel, grid, result, "gate_elements", interpret)(*operands).reshape(
        planes[0].shape
    )


def _load(ref: Any, place: Array, exists: Array) -> Array:
    return plt.load(ref.at[place], mask=exists, other=0).astype(jnp.float32)


def _call(
    kernel: Callable[..., None],
    grid: tuple[int, int],
    result: jax.ShapeDtypeStruct,
    name: str,
    interpret: bool,
) -> Callable[..., Array]:
    return pl.pallas_call(
        kernel,
        grid=grid,
        out_shape=result,
        compiler_params=plt.CompilerParams(num_warps=_THREADS // 32),
        interpret=interpret,
        name=name,
    )
