"""Numbers of videos with several labels each: average precision, ranks and losses; NumPy only.

Labels are bool [N, K]: which classes a video has. A network answers for each class on its own, and
the sigmoid of a logit is the class's probability.
"""

import numpy as np
from scipy.special import log_expit, logsumexp


class PrecisionRecall:
    """The precision-recall curves of all classes, sorted once for many draws of the videos.

    Attributes:
        videos: int64 [K], of each class.
    """

    def __init__(self, logits: np.ndarray, labels: np.ndarray):
        """Sorts the videos of each class by their logits.

        Args:
            logits: float [N, K], all finite.
            labels: bool [N, K].
        """
        self.videos = labels.sum(0)
        self._order = np.argsort(-logits, axis=0, kind="stable")  # [N, K]
        ranked = np.take_along_axis(logits, self._order, axis=0)
        positive = np.take_along_axis(labels, self._order, axis=0)
        # Videos of equal logits are taken together: each counts with the last of its group.
        ends = np.ones(ranked.shape, bool)
        ends[:-1] = ranked[:-1] != ranked[1:]
        places = np.where(ends, np.arange(len(ranked))[:, None], len(ranked))
        last = np.minimum.accumulate(places[::-1], axis=0)[::-1]  # [N, K]
        # One entry for each label of a video, sorted by class and then by place in its order: the
        # class, the place, and the last place of an equal logit.
        self._class, self._place = np.nonzero(positive.T)
        self._last = last[self._place, self._class]
        self._classes = labels.shape[1]
        # The entries before the class's first one, and those up to the last of an equal logit.
        self._before = np.searchsorted(self._class, np.arange(self._classes))[self._class]
        start = self._class * len(logits)
        self._through = np.searchsorted(start + self._place, start + self._last, "right")

    def average_precision(self, draws: np.ndarray | None = None) -> np.ndarray:
        """The average precision of each class, float64 [K]; NaN for a class without videos.

        It is the sum of the precisions at each of the class's videos, over their number: the area
        under the curve without interpolation, as scikit-learn's `average_precision_score` has it.

        Args:
            draws: int [N], how often each video counts; None: once.
        """
        count = np.ones(len(self._order), np.int64) if draws is None else draws
        taken = count[self._order]  # [N, K]
        seen = taken.cumsum(0)
        hits = taken[self._place, self._class]
        found = np.concatenate([[0], hits.cumsum()])
        hits_so_far = found[self._through] - found[self._before]
        # Where nothing was taken yet there is no hit either.
        precision = hits_so_far / np.maximum(seen[self._last, self._class], 1)
        total = np.bincount(self._class, hits, self._classes)
        summed = np.bincount(self._class, hits * precision, self._classes)
        return np.divide(summed, total, out=np.full(self._classes, np.nan), where=total > 0)


def average_precision(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The average precision of each class, see `PrecisionRecall.average_precision`.

    Args:
        logits: float [N, K], all finite.
        labels: bool [N, K].
    """
    return PrecisionRecall(logits, labels).average_precision()


def mean_average_precision(logits: np.ndarray, labels: np.ndarray) -> float:
    """The mean of the average precision over the classes with videos; NaN where none has any.

    Args: as in `average_precision`.
    """
    return mean_of_known(average_precision(logits, labels))


def mean_of_known(precisions: np.ndarray) -> float:
    """The mean of float [K] over what is not NaN; NaN where all is."""
    known = ~np.isnan(precisions)
    return float(precisions[known].mean()) if known.any() else float("nan")


def best_ranks(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The number of classes ahead of the foremost of a video's own: int64 [N].

    A rank below k means that one of the k largest logits is of the video's classes. A video without
    any class has a rank that no k reaches.

    Args: as in `average_precision`. Of equal logits the lower class counts as larger.
    """
    classes = logits.shape[1]
    own = np.where(labels, logits, -np.inf)
    foremost = own.argmax(1)[:, None]  # the lowest of those with equal logits
    largest = np.take_along_axis(own, foremost, axis=1)
    lower_class = np.arange(classes) < foremost
    ahead = ((logits > largest) | ((logits == largest) & lower_class)).sum(1)
    return np.where(labels.any(1), ahead, np.iinfo(np.int64).max)


def sigmoid_losses(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Each video's binary cross-entropy in nats, the mean over all classes: float64 [N].

    Args: as in `average_precision`.
    """
    logits = logits.astype(np.float64)
    return -log_expit(np.where(labels, logits, -logits)).mean(1)


def mean_of_sigmoids(logits: np.ndarray, axis: int, shares: np.ndarray | float = 1.0) -> np.ndarray:
    """The logits of the mean of the probabilities along an axis.

    Args:
        logits: float64, any shape.
        axis: that of the mean.
        shares: weights along the axis, which broadcast to `logits`; they need not sum to 1.
    """
    # Logarithms of p and of 1 − p, so that neither is rounded to 0 or 1 before the logarithm.
    positive, negative = (
        logsumexp(log_expit(sign * logits), axis=axis, b=shares) for sign in (1, -1)
    )
    return positive - negative
