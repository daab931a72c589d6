"""The steps of evaluation: a batch's sums, or the logits of its views. Needs jax, flax only."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax

from aia_jax.models.preprocess import preprocessing
from aia_jax.shapes import Array, PyTree
from aia_jax.training import metrics


def make_eval_step(
    model: nn.Module, multilabel: bool = False
) -> Callable[[PyTree, dict[str, Array]], dict[str, Any]]:
    """Builds `eval_step(variables, batch) -> sums`, a pure function for the caller to jit.

    Args:
        model: the network.
        multilabel: whether a video may have several labels.

    Returns:
        A function of {"params", "batch_stats"} and a batch {"clips": uint8 [B, T, H, W, 3],
        "labels": int [B] or, with several labels, uint8 [B, K], "weights": float [B]}. It returns
        sums over the rows, float32: of loss, top1 and top5, and of weight. Added over batches and
        divided by the sum of weights they are means. Rows of weight 0 add nothing. Clips
        [B, N, T, H, W, 3] are N clips of each video, whose logits are averaged, as the reference
        does. Beside these sums it returns those of each class (`metrics.weighted_sums`); with
        several labels "rows", which mean average precision needs: the logits, labels and weights.
    """
    preprocess = preprocessing(model)

    def eval_step(variables: PyTree, batch: dict[str, Array]) -> dict[str, Any]:
        clips = batch["clips"]
        videos, frames = clips.shape[0], clips.shape[-4:]
        pixels = preprocess(clips.reshape(-1, *frames))  # [B·N, T, H, W, 3]
        logits = model.apply(variables, pixels, train=False)  # [B·N, K]
        logits = logits.reshape(videos, -1, logits.shape[-1]).mean(1)
        labels, weights = batch["labels"], batch["weights"]
        if not multilabel:
            return metrics.weighted_sums(logits, labels, weights)
        rows = {"logits": logits, "labels": labels, "weights": weights}
        return metrics.multilabel_sums(logits, labels, weights) | {"rows": rows}

    return eval_step


def make_view_step(
    model: nn.Module, views: int
) -> Callable[[PyTree, dict[str, Array], Array], tuple[Array, Array]]:
    """Builds `view_step(variables, batch, first) -> (logits, weights)`, for the caller to jit.

    Args:
        model: the network.
        views: of each video that one call takes.

    Returns:
        A function of {"params", "batch_stats"}, a batch {"clips": uint8 [B, V, T, H, W, 3] or, of a
        single view, [B, T, H, W, 3], "weights": float [B]}, and the number of the first view. It
        returns the logits of `views` views, float [B, views, K], and the weights, so that every
        host can have those of all rows.
    """
    preprocess = preprocessing(model)

    def view_step(variables: PyTree, batch: dict[str, Array], first: Array) -> tuple[Array, Array]:
        clips = batch["clips"]
        if clips.ndim == 5:
            clips = clips[:, None]
        videos, frames = clips.shape[0], clips.shape[-4:]
        clips = jax.lax.dynamic_slice_in_dim(clips, first, views, axis=1)
        pixels = preprocess(clips.reshape(-1, *frames))  # [B·views, T, H, W, 3]
        logits = model.apply(variables, pixels, train=False)  # [B·views, K]
        return logits.reshape(videos, views, -1), batch["weights"]

    return view_step
