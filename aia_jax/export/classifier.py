"""A network, its weights and its normalisation as one StableHLO program."""

from collections.abc import Sequence

import jax
from flax import linen as nn
from jax import export

from aia_jax.ops import without_gpu_kernels
from aia_jax.shapes import PyTree
from aia_jax.training.step import normalize

PLATFORMS = ("cpu", "cuda", "tpu")


def export_classifier(
    model: nn.Module,
    variables: PyTree,
    clip_shape: Sequence[int],
    platforms: Sequence[str] = PLATFORMS,
) -> export.Exported:
    """A network as a function of clips alone.

    Args:
        model: called as `model.apply(variables, clips, train=False)`.
        variables: {"params", "batch_stats"}; they become constants of the function.
        clip_shape: (T, H, W, 3).
        platforms: that it shall run on.

    Returns:
        uint8 [b, T, H, W, 3] → float32 [b, K], the softmax of the logits; b is any number.
        `serialize()` gives the file's bytes.
    """

    def classify(clips: jax.Array) -> jax.Array:
        return jax.nn.softmax(model.apply(variables, normalize(clips), train=False))  # [b, K]

    (batch,) = export.symbolic_shape("b")
    with without_gpu_kernels():
        return export.export(jax.jit(classify), platforms=platforms)(
            jax.ShapeDtypeStruct((batch, *clip_shape), "uint8")
        )
