"""What a clip's logits are compared with: targets, label smoothing, weights of the classes."""

import re
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from aia_jax.errors import UserError
from aia_jax.models.fields import value_text
from aia_jax.shapes import Array, Float
from aia_jax.training import metrics
from aia_jax.training.metrics import Targets

_EFFECTIVE = re.compile(r"effective(.+)")  # β follows


@dataclass(frozen=True, eq=False)
class Objective:
    """The loss of a clip, as pure functions of logits and targets.

    One label a video: the cross-entropy −Σ_k w_k t_k log p_k with p the softmax of the logits, t
    the target's shares of the classes, w the weights of the classes. Several labels a video: the
    mean over the classes of w_k times the binary cross-entropy of t_k and the sigmoid of logit k.

    A batch's loss is the mean of its rows. The weights are 1 on average over the clips of training,
    so no batch divides by a sum of its own weights, and micro-batches and devices agree.

    Attributes:
        num_classes: K; `losses` does not need it.
        label_smoothing: share ε of the target that is spread: over all classes, the label's own
            among them, or, with several labels, over yes and no of each class.
        class_weights: float32 [K]; None: 1 each.
        multilabel: whether a video may have several labels.
    """

    num_classes: int = 0
    label_smoothing: float = 0.0
    class_weights: np.ndarray | None = None
    multilabel: bool = False

    @property
    def label_shape(self) -> tuple[int, ...]:
        """Of a video's labels in a batch: (), or (K,) if it may have several."""
        return (self.num_classes,) if self.multilabel else ()

    def targets(self, labels: Targets) -> Float[Array, "b k"]:
        """The shares of the classes, float32: one-hot, multi-hot, or shares as they are.

        Label smoothing is not in them: `losses` applies it.
        """
        if labels.ndim == 1:
            return jax.nn.one_hot(labels, self.num_classes, dtype=jnp.float32)
        return jnp.asarray(labels, jnp.float32)

    def losses(self, logits: Float[Array, "b k"], targets: Targets) -> Float[Array, " b"]:
        """The loss of every row, in nats, at least float32; smoothed and weighted.

        Args:
            logits: any float dtype.
            targets: the labels of a batch, or what `targets` or a mix made of them.
        """
        loss = metrics.sigmoid_cross_entropy if self.multilabel else metrics.cross_entropy
        return loss(logits, targets, self.label_smoothing, self.class_weights)

    def means(
        self, losses: Float[Array, " b"], logits: Float[Array, "b k"], targets: Targets
    ) -> dict[str, Array]:
        """Means over the batch for the log: loss (nats), top1 and top5 (fractions)."""
        return metrics.batch_means(losses, logits, targets)


def make_objective(config: Any, labels: np.ndarray, num_classes: int) -> Objective:
    """The objective of a recipe: `train.label_smoothing`, `train.class_weights`.

    Args:
        config: of the run; `data.label_kind` "multi" means several labels a video.
        labels: of the training videos: int [N], or uint8 [N, K] with several labels a video.
            Negative ones do not count.
        num_classes: K.

    Raises:
        UserError: the weights are not of these classes.
    """
    train = config.train
    multilabel = config.data.label_kind == "multi"
    weights = None
    if train.class_weights != "none":
        videos = count_videos(labels, num_classes)
        balance = None if multilabel else config.data.balance
        weights = class_weights(train.class_weights, videos, balance)
    return Objective(num_classes, train.label_smoothing, weights, multilabel)


def describe_loss(config: Any) -> str:
    """The objective of a recipe in words, for the start table."""
    train = config.train
    text = "cross-entropy"
    if config.data.label_kind == "multi":
        text = "binary cross-entropy of each class"
    if train.label_smoothing:
        text += f", label smoothing {train.label_smoothing:g}"
    if train.class_weights != "none":
        rule = train.class_weights
        text += f", class weights {rule if isinstance(rule, str) else value_text(rule)}"
    return text


def count_videos(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """int64 [K]: the videos of each class; `labels` as in `make_objective`."""
    if labels.ndim == 2:
        return labels.sum(0, dtype=np.int64)
    return np.bincount(labels[labels >= 0], minlength=num_classes)


def class_weights(
    rule: str | tuple[float, ...], videos: np.ndarray, balance: float | None = 0.0
) -> np.ndarray:
    """The weight of each class in the loss, float32 [K].

    Scaled so that the mean over the clips that are trained on is 1. A rule gives weight 1 to a
    class without training videos.

    Args:
        rule: "inverse": 1 / n with n the class's videos. "effectiveβ", such as "effective0.999":
            (1 − β) / (1 − β^n), the inverse of the effective number of videos (Cui et al. 2019,
            equation 2): between none (β = 0) and inverse (β → 1). Numbers: one a class.
        videos: int [K], n of each class.
        balance: the plan's (`data.balance`): the clips of a class are as n^(1 − balance). None:
            several labels a video, of which each clip has a term for each class.

    Raises:
        UserError: there are not as many numbers as classes, or only classes without videos have a
            weight.
    """
    known = videos > 0
    if isinstance(rule, str):
        beta = float(match[1]) if (match := _EFFECTIVE.fullmatch(rule)) else 1.0
        n = np.maximum(videos, 1).astype(np.float64)
        weights = 1 / n if beta == 1 else (1 - beta) / (1 - beta**n)
    else:
        weights = _listed_weights(rule, len(videos))
    # Of a rule, classes without videos have weight 1 whatever the others have.
    terms = known | (balance is None and not isinstance(rule, str))
    clips = np.where(terms, np.maximum(videos, 1.0) ** (0 if balance is None else 1 - balance), 0.0)
    mean = np.average(weights, weights=clips) if clips.any() else 1.0
    if mean == 0:
        raise UserError(
            f"config key train.class_weights: found {value_text(rule)}, which gives every class "
            "that has training videos the weight 0; give one of them more"
        )
    weights = weights / mean
    if isinstance(rule, str):
        weights = np.where(known, weights, 1.0)
    return weights.astype(np.float32)


def _listed_weights(numbers: tuple[float, ...], num_classes: int) -> np.ndarray:
    if len(numbers) < num_classes:
        raise UserError(
            f"config key train.class_weights: found {len(numbers)} numbers, none for the class of "
            f"label {len(numbers)}; expected {num_classes}, one for each class"
        )
    if len(numbers) > num_classes:
        raise UserError(
            f"config key train.class_weights: found {len(numbers)} numbers, of which "
            f"{numbers[num_classes]} is for label {num_classes}, a class that does not exist; "
            f"expected {num_classes}, one for each class"
        )
    return np.array(numbers, np.float64)
