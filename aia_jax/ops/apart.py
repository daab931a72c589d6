"""Keeping a computation apart from its readers."""

from collections.abc import Callable
from typing import Any

import jax

from aia_jax.shapes import Array


def apart(number: Array, function: Callable[..., Any], otherwise: Callable[..., Any], *operands: Any) -> Any:
    """`function(*operands)`, computed once and kept in memory, whatever reads it.

    XLA likes to write a producer into each of its readers. For a small result with many readers (a pooled plane, the 54 taps of a stencil)
    that multiplies the work and the time to compile. A barrier prevents it on GPUs and TPUs. The CPU backend drops barriers before it
    fuses; there the computation sits in a branch of a conditional, which nothing is fused with.

    Args:
        number: a scalar that XLA cannot know. The condition is that it equals itself, so it always holds but for NaN.
        function: what to compute.
        otherwise: what to compute for NaN: the same result, or NaN if that is what it would be.
    """
    return jax.lax.platform_dependent(
        *operands,
        cpu=lambda *args: jax.lax.cond(number == number, function, otherwise, *args),
        default=lambda *args: jax.lax.optimization_barrier(function(*args)),
    )
