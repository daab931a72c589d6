"""Keeping results in memory that XLA would compute again, or keep in another form."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.xla_metadata import set_xla_metadata

from aia_jax.shapes import Array


def apart(function: Callable[..., Any], *operands: Any) -> Any:
    """`function(*operands)`, on CPUs computed once and kept in memory, whatever reads it.

    XLA likes to write a producer into each of its readers. For a small result with many readers (a
    pooled plane, the 54 taps of a stencil) that multiplies the work and the time to compile. The
    CPU backend drops barriers before it fuses. So the computation is a call that XLA is told not to
    write out, which nothing is fused with; calls of one trace are one computation to most of XLA's
    passes.
    """
    called = jax.jit(function)

    def not_inlined(*operands: Any) -> Any:
        # On the call's results: around the call, as a context, it would have JAX trace the function
        # a second time.
        return set_xla_metadata(called(*operands), inlineable="false")

    return jax.lax.platform_dependent(*operands, cpu=not_inlined, default=called)


@jax.custom_vjp
def kept(x: Array) -> Array:
    """x behind a barrier: for what many passes read, such as the feature between two attention
    modules.

    Left to itself XLA for GPUs keeps it in float32, or a product of it. Its gradient is left to
    XLA, which writes it in the pass that reads it first.
    """
    return jax.lax.optimization_barrier(x)


kept.defvjp(lambda x: (kept(x), None), lambda _, gradient: (gradient,))


def wide(x: Array) -> Array:
    """x in float32, or in float64 if it has that: what half-precision features are summed and
    compared in.
    """
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def rounded(x: Array, dtype: jnp.dtype) -> Array:
    """x as `dtype`, rounded to it in every reader.

    XLA may leave out a rounding to half precision where it writes the cast into its reader, and
    keep it where it does not. What is compared with its maximum in another pass must be the same
    number in both.
    """
    if x.dtype == dtype:
        return x
    info = jnp.finfo(dtype)
    return jax.lax.reduce_precision(x, info.nexp, info.nmant).astype(dtype)
