"""Keeping a computation apart from its readers."""

import functools
from collections.abc import Callable
from typing import Any

import jax
from jax.experimental.xla_metadata import set_xla_metadata


def apart(function: Callable[..., Any], *operands: Any) -> Any:
    """`function(*operands)`, computed once and kept in memory, whatever reads it.

    XLA likes to write a producer into each of its readers. For a small result with many readers (a pooled plane, the 54 taps of a stencil)
    that multiplies the work and the time to compile. A barrier prevents it on GPUs and TPUs. The CPU backend drops barriers before it
    fuses; there the computation is a call that XLA is told not to write out, which nothing is fused with. Calls of one trace are one
    computation to most of XLA's passes.
    """
    traced = jax.jit(functools.partial(_inlineable, function))  # once, not for each platform

    def called(*operands: Any) -> Any:
        with set_xla_metadata(inlineable="false"):
            return traced(*operands)

    return jax.lax.platform_dependent(*operands, cpu=called, default=lambda *operands: jax.lax.optimization_barrier(traced(*operands)))


def _inlineable(function: Callable[..., Any], *operands: Any) -> Any:
    with set_xla_metadata(inlineable=None):
        return function(*operands)
