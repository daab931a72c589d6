"""Intervals of a test's numbers, by a bootstrap over its videos."""

from collections.abc import Callable

import numpy as np

from aia_jax.evaluation.metrics import losses, ranks
from aia_jax.evaluation.multilabel import PrecisionRecall, mean_of_known
from aia_jax.evaluation.scores import Scores

RESAMPLES = 1000
LEVEL = 0.95
_BATCH = 32  # resamples that are in memory at a time


def mean_interval(
    values: np.ndarray, resamples: int = RESAMPLES, level: float = LEVEL, seed: int = 0
) -> tuple[float, float]:
    """The interval of the mean of float [N], a value for each video; arguments as `intervals`."""
    from scipy.stats import bootstrap

    if len(values) == 1:  # SciPy wants two
        return float(values[0]), float(values[0])
    found = bootstrap(
        (values,),
        np.mean,
        n_resamples=resamples,
        batch=_BATCH,
        confidence_level=level,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(found.low), float(found.high)


def intervals(
    scores: Scores, resamples: int = RESAMPLES, level: float = LEVEL, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Intervals of top1, top5, mean_class_accuracy and loss, by a bootstrap over videos.

    They are percentiles. All numbers see the same resamples. A class that does not occur in a
    resample is left out of its mean-class accuracy. Where videos have several labels, map (mean
    average precision) stands in the place of mean_class_accuracy. Videos that a resample has twice
    raise an average precision, so the interval of map is moved by the resamples' mean less map; a
    resample without any label counts as map itself.

    Args:
        scores: of the split.
        resamples: draws of as many videos as count, with replacement.
        level: the part of the resamples that lies inside.
        seed: of the draws; the same seed gives the same intervals.

    Returns:
        Name → (low, high). A single video gives intervals of no width.

    Raises:
        ScoresError: no video was evaluated.
    """
    counted = scores.only_evaluated()
    rank = ranks(counted.logits, counted.labels)
    columns = np.stack([rank < 1, rank < 5, losses(counted.logits, counted.labels)])  # [3, N]
    name, by_class = "mean_class_accuracy", _mean_class_accuracies(columns[0], counted.labels)
    if counted.multilabel:
        name, by_class = "map", _mean_precisions(counted)

    def statistic(rows: np.ndarray, axis: int = -1) -> np.ndarray:
        """[4, ...] of resampled rows [..., N]."""
        flat = rows.reshape(-1, rows.shape[-1])  # [R, N]
        top1, top5, loss = (column[flat].mean(-1) for column in columns)
        found = np.stack([top1, top5, by_class(flat), loss])
        return found.reshape(4, *rows.shape[:-1])

    low, high, bias = _bootstrap(statistic, len(counted), resamples, level, seed)
    shift = bias * [0, 0, counted.multilabel, 0]
    low, high = (np.minimum(end - shift, [1, 1, 1, np.inf]) for end in (low, high))
    low, high = np.maximum(low, 0), np.maximum(high, 0)
    pairs = zip(low.tolist(), high.tolist(), strict=True)
    return dict(zip(("top1", "top5", name, "loss"), pairs, strict=True))


def map_difference_interval(
    first: Scores, second: Scores, resamples: int = RESAMPLES, level: float = LEVEL, seed: int = 0
) -> tuple[float, float]:
    """The interval of the second model's mean average precision less the first one's.

    It is moved by the resamples' bias, as that of map in `intervals`.

    Args:
        first, second: of the same videos, all evaluated, with several labels each.
        resamples, level, seed: as in `intervals`.
    """
    ours, theirs = _mean_precisions(first), _mean_precisions(second)

    def statistic(rows: np.ndarray, axis: int = -1) -> np.ndarray:
        flat = rows.reshape(-1, rows.shape[-1])
        return (theirs(flat) - ours(flat)).reshape(1, *rows.shape[:-1])

    (low,), (high,), (bias,) = _bootstrap(statistic, len(first), resamples, level, seed)
    return tuple(np.clip([low - bias, high - bias], -1, 1).tolist())


# From rows [R, N], each a draw of N videos, to a number of each draw, [R].
_OfDraws = Callable[[np.ndarray], np.ndarray]


def _mean_class_accuracies(hits: np.ndarray, labels: np.ndarray) -> _OfDraws:
    classes, labels = np.unique(labels, return_inverse=True)

    def compute(rows: np.ndarray) -> np.ndarray:
        cells = labels[rows] + len(classes) * np.arange(len(rows))[:, None]
        size = len(classes) * len(rows)
        videos = np.bincount(cells.ravel(), minlength=size).reshape(len(rows), -1)
        found = np.bincount(cells[hits[rows] > 0], minlength=size).reshape(len(rows), -1)
        recall = np.divide(found, videos, out=np.zeros(videos.shape), where=videos > 0)
        return recall.sum(-1) / (videos > 0).sum(-1)

    return compute


def _mean_precisions(scores: Scores) -> _OfDraws:
    """A draw without any label counts as all videos do; 0 where none has any."""
    curves, count = PrecisionRecall(scores.logits, scores.labels), len(scores)
    whole = np.nan_to_num(mean_of_known(curves.average_precision()))

    def compute(rows: np.ndarray) -> np.ndarray:
        draws = (np.bincount(row, minlength=count) for row in rows)
        means = [mean_of_known(curves.average_precision(draw)) for draw in draws]
        return np.nan_to_num(np.array(means), nan=whole)

    return compute


def _bootstrap(
    statistic: Callable[..., np.ndarray], count: int, resamples: int, level: float, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The percentiles (low, high) of each of a statistic's numbers, over draws of `count` rows.

    The third array is the mean over the draws less the number of all rows once.
    """
    from scipy.stats import bootstrap

    rows = np.arange(count)
    if count == 1:  # SciPy wants two
        return statistic(rows), statistic(rows), np.zeros(len(statistic(rows)))
    found = bootstrap(
        (rows,),
        statistic,
        n_resamples=resamples,
        batch=_BATCH,
        vectorized=True,
        confidence_level=level,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    low, high = found.confidence_interval
    return low, high, found.bootstrap_distribution.mean(-1) - statistic(rows)
