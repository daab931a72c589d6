"""Makes one StableHLO program of a network, its weights and its normalisation."""

from collections.abc import Sequence

import jax
from flax import linen as nn
from jax import export

from aia_jax.models.preprocess import preprocessing
from aia_jax.ops import without_gpu_kernels
from aia_jax.shapes import PyTree

PLATFORMS = ("cpu", "cuda", "tpu")


def export_classifier(
    model: nn.Module,
    variables: PyTree,
    clip_shape: Sequence[int],
    platforms: Sequence[str] = PLATFORMS,
    multilabel: bool = False,
) -> export.Exported:
    """Exports a network as a function of clips alone.

    Args:
        model: a network of `aia_jax.models`.
        variables: {"params", "batch_stats"}; they become constants of the function.
        clip_shape: (T, H, W, 3).
        platforms: on which the function shall run.
        multilabel: whether a clip may have several classes.

    Returns:
        The function uint8 [b, T, H, W, 3] → float32 [b, K], for any b: the softmax of the logits,
        or with `multilabel` their sigmoid. `serialize()` gives the file's bytes.
    """
    preprocess = preprocessing(model)
    to_probabilities = jax.nn.sigmoid if multilabel else jax.nn.softmax

    def classify(clips: jax.Array) -> jax.Array:
        return to_probabilities(model.apply(variables, preprocess(clips), train=False))  # [b, K]

    (batch,) = export.symbolic_shape("b")
    with without_gpu_kernels():
        return export.export(jax.jit(classify), platforms=platforms)(
            jax.ShapeDtypeStruct((batch, *clip_shape), "uint8")
        )
