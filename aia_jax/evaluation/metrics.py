"""Numbers that scores give: accuracy, loss, calibration, per class and by pairs of classes.

Only videos that were evaluated count. Of equal logits the lower class counts as larger, as in
`aia_jax.training.metrics`. Where videos have several labels each, the numbers are those of
`multilabel.py`.
"""

import dataclasses
from typing import Any, NamedTuple

import numpy as np
from scipy.special import log_softmax

from aia_jax.evaluation.multilabel import (
    average_precision,
    best_ranks,
    mean_of_known,
    sigmoid_losses,
)
from aia_jax.evaluation.scores import Scores, ScoresError

BINS = 15  # of calibration, as Guo et al. 2017 have it


@dataclasses.dataclass(frozen=True)
class Summary:
    """The numbers of a test.

    Attributes:
        top1: fraction of videos whose class (of several, one of them) has the largest logit.
        top5: fraction whose class is among the five largest (or all, with fewer classes).
        mean_class_accuracy: mean over the classes that occur of the class's top-1; None for
            several labels a video.
        map: mean over the classes that occur of the average precision, for several labels a video;
            else None.
        loss: cross-entropy in nats; for several labels a video the mean over classes of the
            sigmoid's.
        ece: expected calibration error, see `calibration`; None for several labels a video.
        evaluated: videos that count.
        expected: videos of the split.
        classes: classes that occur among the videos that count.
    """

    top1: float
    top5: float
    mean_class_accuracy: float | None
    map: float | None
    loss: float
    ece: float | None
    evaluated: int
    expected: int
    classes: int

    def numbers(self) -> dict[str, Any]:
        """Those that the test has, by name."""
        return {key: value for key, value in vars(self).items() if value is not None}


class ClassResult(NamedTuple):
    """The numbers of a class.

    Attributes:
        label: the class's number.
        name: its name.
        videos: of this class that count.
        top1: fraction of them, the class's recall; None without videos.
        top5: as top1.
        precision: fraction of the videos with this prediction that are of this class; None if no
            video was taken for it.
        f1: harmonic mean of recall and precision; None without videos.
    """

    label: int
    name: str
    videos: int
    top1: float | None
    top5: float | None
    precision: float | None
    f1: float | None


class LabelResult(NamedTuple):
    """The numbers of a class, where videos have several labels.

    Attributes:
        label: the class's number.
        name: its name.
        videos: that have it and count.
        ap: average precision; None without videos.
        precision: fraction of the videos with a probability of 0.5 or more that have the class;
            None if there are none.
        recall: fraction of the class's videos with such a probability; None without videos.
    """

    label: int
    name: str
    videos: int
    ap: float | None
    precision: float | None
    recall: float | None


class ConfusedPair(NamedTuple):
    """Videos of one class that were taken for another."""

    label: int
    predicted: int
    videos: int
    share: float  # of the class's videos


class Calibration(NamedTuple):
    """How often the network is right where it is so sure; arrays by bin of confidence.

    Attributes:
        ece: expected calibration error: the mean of |confidence − accuracy| over the bins, each
            weighted by its videos.
        edges: float64 [bins + 1], equal steps from 0 to 1; a bin has its upper edge, not its lower.
        videos: int64 [bins].
        confidence: float64 [bins], mean probability of the predicted class; NaN in an empty bin.
        accuracy: float64 [bins], fraction of right predictions; NaN in an empty bin.
    """

    ece: float
    edges: np.ndarray
    videos: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray


def ranks(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The number of classes ahead of each video's own: int64 [N]; top-k means a rank below k.

    Of several labels a video the foremost counts.

    Args:
        logits: float [N, K], all finite.
        labels: int [N], or bool [N, K].
    """
    if labels.ndim == 2:
        return best_ranks(logits, labels)
    own = np.take_along_axis(logits, labels[:, None], axis=1)
    lower_class = np.arange(logits.shape[1]) < labels[:, None]
    return ((logits > own) | ((logits == own) & lower_class)).sum(1)


def losses(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The cross-entropy of each video, in nats: float64 [N]; arguments as in `ranks`.

    Of several labels a video it is the mean over classes of the sigmoid's cross-entropy.
    """
    if labels.ndim == 2:
        return sigmoid_losses(logits, labels)
    log_probabilities = log_softmax(logits.astype(np.float64), axis=1)
    return -np.take_along_axis(log_probabilities, labels[:, None], axis=1)[:, 0]


def summarize(scores: Scores, bins: int = BINS) -> Summary:
    """The numbers of a test, over the videos that were evaluated.

    Args:
        scores: of the split.
        bins: of the calibration error.

    Raises:
        ScoresError: no video was evaluated.
    """
    counted = scores.only_evaluated()
    rank = ranks(counted.logits, counted.labels)
    accuracy, precision, ece = None, None, None
    if counted.multilabel:
        videos = counted.labels.sum(0)
        if videos.any():
            precision = mean_of_known(average_precision(counted.logits, counted.labels))
    else:
        recall, videos = _recall(rank < 1, counted.labels, len(counted.class_names))
        accuracy, ece = float(recall[videos > 0].mean()), calibration(scores, bins).ece
    return Summary(
        top1=float((rank < 1).mean()),
        top5=float((rank < 5).mean()),
        mean_class_accuracy=accuracy,
        map=precision,
        loss=float(losses(counted.logits, counted.labels).mean()),
        ece=ece,
        evaluated=len(counted),
        expected=len(scores),
        classes=int((videos > 0).sum()),
    )


def per_class(scores: Scores) -> list[ClassResult]:
    """The numbers of every class, by label.

    Raises:
        ScoresError: no video was evaluated, or videos have several labels (see `per_label`).
    """
    from sklearn.metrics import precision_recall_fscore_support

    counted = _of_one_label(scores, "a class's top-1").only_evaluated()
    rank, predicted = ranks(counted.logits, counted.labels), counted.logits.argmax(1)
    count = len(counted.class_names)
    precision, _, f1, _ = precision_recall_fscore_support(
        counted.labels, predicted, labels=np.arange(count), zero_division=0.0
    )
    top1, videos = _recall(rank < 1, counted.labels, count)
    top5, _ = _recall(rank < 5, counted.labels, count)
    taken = np.bincount(predicted, minlength=count)

    def known(values: np.ndarray, label: int, there: np.ndarray) -> float | None:
        return float(values[label]) if there[label] else None

    return [
        ClassResult(
            label,
            name,
            int(videos[label]),
            known(top1, label, videos),
            known(top5, label, videos),
            known(precision, label, taken),
            known(f1, label, videos),
        )
        for label, name in enumerate(counted.class_names)
    ]


def per_label(scores: Scores) -> list[LabelResult]:
    """The numbers of every class of videos with several labels, by label.

    Raises:
        ScoresError: no video was evaluated, or videos have one label each (see `per_class`).
    """
    if not scores.multilabel:
        raise ScoresError("the videos have one label each; per_class gives the numbers of classes")
    counted = scores.only_evaluated()
    precisions = average_precision(counted.logits, counted.labels)
    taken = counted.logits >= 0  # a probability of 0.5 or more
    videos, predicted = counted.labels.sum(0), taken.sum(0)
    right = (taken & counted.labels).sum(0)
    return [
        LabelResult(
            label,
            name,
            int(videos[label]),
            float(precisions[label]) if videos[label] else None,
            float(right[label] / predicted[label]) if predicted[label] else None,
            float(right[label] / videos[label]) if videos[label] else None,
        )
        for label, name in enumerate(counted.class_names)
    ]


def confusion(scores: Scores) -> np.ndarray:
    """int64 [K, K]: how many videos of the row's class were taken for the column's.

    Raises:
        ScoresError: no video was evaluated, or videos have several labels.
    """
    from sklearn.metrics import confusion_matrix

    counted = _of_one_label(scores, "a confusion matrix").only_evaluated()
    labels = np.arange(len(counted.class_names))
    return confusion_matrix(counted.labels, counted.logits.argmax(1), labels=labels)


def confused_pairs(scores: Scores, count: int | None = None) -> list[ConfusedPair]:
    """The pairs of classes with the most videos of the first taken for the second.

    Args:
        scores: of the split.
        count: of pairs; None: all that occur. Of equal numbers the larger share comes first.

    Raises:
        ScoresError: as `confusion`.
    """
    matrix = confusion(scores)
    videos = matrix.sum(1)
    np.fill_diagonal(matrix, 0)
    pairs = [
        ConfusedPair(int(label), int(predicted), int(n), float(n / videos[label]))
        for label, predicted in np.argwhere(matrix)
        if (n := matrix[label, predicted])
    ]
    pairs.sort(key=lambda pair: (-pair.videos, -pair.share, pair.label, pair.predicted))
    return pairs[:count]


def calibration(scores: Scores, bins: int = BINS) -> Calibration:
    """Compares the probability of the predicted class with how often it is right.

    Args:
        scores: of the split.
        bins: of equal width.

    Raises:
        ScoresError: no video was evaluated, or videos have several labels.
    """
    counted = _of_one_label(scores, "a calibration error").only_evaluated()
    log_probabilities = log_softmax(counted.logits.astype(np.float64), axis=1)
    confidence = np.exp(log_probabilities.max(1))
    right = counted.logits.argmax(1) == counted.labels
    edges = np.linspace(0, 1, bins + 1)
    slot = np.clip(np.searchsorted(edges, confidence) - 1, 0, bins - 1)
    videos = np.bincount(slot, minlength=bins)
    sums = [np.bincount(slot, values, minlength=bins) for values in (confidence, right)]
    gap = np.abs(sums[0] - sums[1]).sum() / len(counted)
    means = [np.divide(s, videos, out=np.full(bins, np.nan), where=videos > 0) for s in sums]
    return Calibration(float(gap), edges, videos, *means)


def _of_one_label(scores: Scores, number: str) -> Scores:
    if scores.multilabel:
        raise ScoresError(
            f"{number} has no meaning for videos with several labels; mAP and the average "
            "precision of each class are their numbers"
        )
    return scores


def _recall(hits: np.ndarray, labels: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The fraction of hits in each class, 0 without videos, and the class's videos: [K] each."""
    videos = np.bincount(labels, minlength=count)
    found = np.bincount(labels[hits], minlength=count)
    return np.divide(found, videos, out=np.zeros(count), where=videos > 0), videos
