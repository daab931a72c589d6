"""Pallas kernels over planes, element by element: for batch normalisation and its gradient.

A program has consecutive elements of one clip. It takes them in rounds: in each round every thread
loads a few elements, which are on their way from memory at the same time.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from aia_jax.ops.triton.availability import triton
from aia_jax.shapes import Array

_THREADS = 256
_LOADS = 4  # elements that a thread loads at once, in a round
_ROUNDS = 4  # rounds of a program


def num_programs(size: int) -> int:
    """Counts the programs for a clip's plane of `size` elements."""
    return pl.cdiv(size, _THREADS * _LOADS * _ROUNDS)


def sum_products_kernel(
    function: Callable[[Array, Array], Array], first: Array, second: Array, factor: Array
) -> Array:
    """Sums v = function(first, second), and v · factor, over parts of each clip.

    Args:
        function: element by element, float32.
        first, second, factor: planes [b, i, j, k].

    Returns:
        Partial sums [b, num_programs, 2], float32.
    """
    clips, size = factor.shape[0], factor[0].size
    programs = num_programs(size)

    def kernel(first_ref: Any, second_ref: Any, factor_ref: Any, sums_ref: Any) -> None:
        clip, program = pl.program_id(1), pl.program_id(0)

        def add_round(n: Array, sums: tuple[Array, Array]) -> tuple[Array, Array]:
            refs = (first_ref, second_ref, factor_ref)
            loaded = [
                [_load(ref, clip * size + offset, offset < size) for ref in refs]
                for offset in _offsets(program, n)
            ]
            for first, second, factor in loaded:
                value = function(first, second)
                sums = sums[0] + value, sums[1] + value * factor
            return sums

        zeros = jnp.zeros(_THREADS, jnp.float32)
        for n, sums in enumerate(jax.lax.fori_loop(0, _ROUNDS, add_round, (zeros, zeros))):
            triton.store(sums_ref.at[2 * (clip * programs + program) + n], sums.sum())

    result = jax.ShapeDtypeStruct((clips * programs * 2,), jnp.float32)
    sums = _pallas_call(kernel, (programs, clips), result, "gate_gradient_sums")(
        *(plane.reshape(-1) for plane in (first, second, factor))
    )
    return sums.reshape(clips, programs, 2)


def elementwise_kernel(
    function: Callable[..., Array],
    planes: tuple[Array, ...],
    moments: tuple[Array, ...],
    numbers: tuple[Array, ...],
    dtype: Any,
) -> Array:
    """Computes `function(*planes, *moments, *numbers)` element by element, and rounds to `dtype`.

    Args:
        planes: [b, i, j, k]; the function takes them in float32.
        moments: [1, 2] for all clips, or [b, 2]; the function takes each as a pair of numbers.
        numbers: [1].
    """
    clips, size = planes[0].shape[0], planes[0][0].size
    p, m = len(planes), len(moments)

    def kernel(*refs: Any) -> None:
        clip, program = pl.program_id(1), pl.program_id(0)
        first = 0 if moments[0].shape[0] == 1 else 2 * clip
        pairs = [(ref[first], ref[first + 1]) for ref in refs[p : p + m]]
        single_numbers = [ref[0] for ref in refs[p + m : -1]]
        for n in range(_ROUNDS):
            offsets = _offsets(program, n)
            loaded = [
                [_load(ref, clip * size + offset, offset < size) for ref in refs[:p]]
                for offset in offsets
            ]
            for offset, values in zip(offsets, loaded, strict=True):
                triton.store(
                    refs[-1].at[clip * size + offset],
                    function(*values, *pairs, *single_numbers).astype(dtype),
                    mask=offset < size,
                )

    operands = [operand.reshape(-1) for operand in (*planes, *moments, *numbers)]
    result = jax.ShapeDtypeStruct(operands[0].shape, dtype)
    values = _pallas_call(kernel, (num_programs(size), clips), result, "gate_elements")(*operands)
    return values.reshape(planes[0].shape)


def _offsets(program: Array, n: int | Array) -> list[Array]:
    """Offsets in a clip of the elements that a program's threads load in round n."""
    first = (program * _ROUNDS + n) * _LOADS * _THREADS
    return [first + m * _THREADS + jnp.arange(_THREADS, dtype=jnp.int32) for m in range(_LOADS)]


def _load(ref: Any, offset: Array, exists: Array) -> Array:
    return triton.load(ref.at[offset], mask=exists, other=0).astype(jnp.float32)


def _pallas_call(
    kernel: Callable[..., None], grid: tuple[int, int], result: jax.ShapeDtypeStruct, name: str
) -> Callable[..., Array]:
    return pl.pallas_call(
        kernel,
        grid=grid,
        out_shape=result,
        compiler_params=triton.CompilerParams(num_warps=_THREADS // 32),
        name=name,
    )
