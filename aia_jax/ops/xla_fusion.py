"""Means against XLA's fusion, where it would recompute a value or keep it in another precision."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.xla_metadata import set_xla_metadata

from aia_jax.shapes import Array


def materialize(function: Callable[..., Any], *operands: Any) -> Any:
    """Computes `function(*operands)`, on CPUs once for all of its readers.

    XLA likes to fuse a producer into each of its readers, which then recompute it. A small result
    with many readers (a pooled plane, the 54 taps of a stencil) multiplies both the work and the
    time to compile. The CPU backend removes optimization barriers before it fuses, so they do not
    help there. A call that must not be inlined helps, because nothing is fused with its inside.
    XLA's passes also treat equal calls within one trace as one computation (docs/experiments.md,
    "Stencil: a barrier to keep the 54 taps out of their readers").
    """
    jitted = jax.jit(function)

    def call_without_inlining(*operands: Any) -> Any:
        # The attribute is set on the results of the call. As a context around the call it would
        # make JAX trace the function a second time.
        return set_xla_metadata(jitted(*operands), inlineable="false")

    return jax.lax.platform_dependent(*operands, cpu=call_without_inlining, default=jitted)


@jax.custom_vjp
def forward_barrier(x: Array) -> Array:
    """Returns x behind an optimization barrier; its gradient passes without one.

    It is meant for an array that many passes read, such as the feature between two attention
    modules: without the barrier XLA for GPUs stores that feature in float32, or a product of it.
    The gradient needs no barrier: XLA writes it in the pass that reads it first.
    """
    return jax.lax.optimization_barrier(x)


forward_barrier.defvjp(lambda x: (forward_barrier(x), None), lambda _, gradient: (gradient,))


def at_least_float32(x: Array) -> Array:
    """Casts x to float32, or leaves it float64: the dtype in which features are summed."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def round_to(x: Array, dtype: jnp.dtype) -> Array:
    """Casts x to `dtype` with a rounding that XLA must keep in every reader.

    Where XLA fuses a cast to half precision into a reader it may leave out the rounding, and keep
    it in another reader. A pooled maximum is compared with its feature in a later pass, and finds
    itself there only if both passes rounded alike.
    """
    if x.dtype == dtype:
        return x
    info = jnp.finfo(dtype)
    return jax.lax.reduce_precision(x, info.nexp, info.nmant).astype(dtype)
