"""What the modules share whose gate is made of a whole clip: its mean, and the product with it."""

import jax

from aia_jax.ops.xla_fusion import at_least_float32, round_to
from aia_jax.shapes import Array, Float


def mean_of_clip(x: Float[Array, "b t h w c"]) -> Float[Array, "b c"]:
    """The mean over T, H and W in float32 (float64 for a float64 feature)."""
    return at_least_float32(x).mean((2, 3)).mean(1)


def of_clip(vector: Float[Array, "b c"]) -> Float[Array, "b 1 1 1 c"]:
    """Gives a vector of each clip the axes of its feature."""
    return vector[:, None, None, None]


def apply_gate(
    x: Float[Array, "b t h w c"], gate: Float[Array, "b _ _ _ _"], relu: bool = False
) -> Float[Array, "b t h w c"]:
    """Multiplies a feature by a gate; with `relu` it returns max(·, 0) of the product.

    Args:
        x: any float dtype; the product has it too.
        gate: float32 (float64 for a float64 feature), with size 1 along any axes but B.
        relu: whether a ReLU follows.
    """
    y = round_to(at_least_float32(x) * gate, x.dtype)
    return jax.nn.relu(y) if relu else y
