"""The end of a residual block: its branch and its shortcut are added, and a ReLU follows."""

import jax
import jax.numpy as jnp

from aia_jax.ops.xla_fusion import materialize
from aia_jax.shapes import Array, Float


@jax.custom_vjp
def residual_relu(
    branch: Float[Array, "n h w c"], shortcut: Float[Array, "n h w c"]
) -> Float[Array, "n h w c"]:
    """Computes max(branch + shortcut, 0), a block's output (He et al. 2016, Fig. 2), once.

    XLA's CPU backend would fuse this sum into each of its readers, and one of them is the next
    block's sum: the sixth block of a stage would compute the outputs of the five blocks before it
    again (docs/experiments.md, "Residual: `relu(x + shortcut)`"). The gradient stores only the
    output.
    """

    def add_and_clip(branch: Array, shortcut: Array) -> Array:
        return jnp.maximum(branch + shortcut, 0)

    return jax.lax.optimization_barrier(materialize(add_and_clip, branch, shortcut))


def _forward(branch: Array, shortcut: Array) -> tuple[Array, Array]:
    output = residual_relu(branch, shortcut)
    return output, output


def _backward(output: Array, gradient: Array) -> tuple[Array, Array]:
    dsum = jnp.where(output > 0, gradient, 0)
    return dsum, dsum


residual_relu.defvjp(_forward, _backward)
