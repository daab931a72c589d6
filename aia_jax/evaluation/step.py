"""The evaluation step: a batch's sums of loss and hits. Needs jax and flax only."""

from collections.abc import Callable

import flax.linen as nn

from aia_jax.models.preprocess import preprocessing
from aia_jax.shapes import Array, PyTree
from aia_jax.training import metrics


def make_eval_step(model: nn.Module) -> Callable[[PyTree, dict[str, Array]], dict[str, Array]]:
    """Builds `eval_step(variables, batch) -> sums`, a pure function for the caller to jit.

    Returns:
        A function of {"params", "batch_stats"} and a batch {"clips": uint8 [B, T, H, W, 3],
        "labels": int [B], "weights": float [B]}. It returns float32 scalars: the sums over the rows
        of loss, top1 and top5, and of weight. Added over batches and divided by the sum of weights
        they are means. Rows of weight 0 add nothing. Clips [B, N, T, H, W, 3] are N clips of each
        video, whose logits are averaged, as the reference does.
    """
    preprocess = preprocessing(model)

    def eval_step(variables: PyTree, batch: dict[str, Array]) -> dict[str, Array]:
        clips = batch["clips"]
        videos, frames = clips.shape[0], clips.shape[-4:]
        pixels = preprocess(clips.reshape(-1, *frames))  # [B·N, T, H, W, 3]
        logits = model.apply(variables, pixels, train=False)  # [B·N, K]
        logits = logits.reshape(videos, -1, logits.shape[-1]).mean(1)
        return metrics.weighted_sums(logits, batch["labels"], batch["weights"])

    return eval_step
