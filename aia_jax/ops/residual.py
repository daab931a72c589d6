"""The end of a residual block."""

import jax
import jax.numpy as jnp

from aia_jax.ops.xla_fusion import apart
from aia_jax.shapes import Array, Float


@jax.custom_vjp
def residual_relu(
    branch: Float[Array, "n h w c"], shortcut: Float[Array, "n h w c"]
) -> Float[Array, "n h w c"]:
    """max(branch + shortcut, 0): a block's output (He et al. 2016, Fig. 2), computed once whatever
    reads it.

    Left to itself, XLA's CPU backend writes this sum into each reader, one of which is the next
    block's sum: the sixth block of a stage would compute the outputs of all before it again. The
    gradient keeps the output alone.
    """
    return jax.lax.optimization_barrier(apart(lambda a, b: jnp.maximum(a + b, 0), branch, shortcut))


def _forward(branch: Array, shortcut: Array) -> tuple[Array, Array]:
    out = residual_relu(branch, shortcut)
    return out, out


def _backward(out: Array, gradient: Array) -> tuple[Array, Array]:
    of_sum = jnp.where(out > 0, gradient, 0)
    return of_sum, of_sum


residual_relu.defvjp(_forward, _backward)
