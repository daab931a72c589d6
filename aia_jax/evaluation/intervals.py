"""Intervals of a test's numbers, by a bootstrap over its videos."""

import numpy as np

from aia_jax.evaluation.metrics import losses, ranks
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
    """Intervals of top1, top5, mean_class and loss: percentiles of a bootstrap over videos.

    All numbers see the same resamples. A class that does not occur in a resample is left out of its
    mean-class accuracy.

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
    from scipy.stats import bootstrap

    counted = scores.only_evaluated()
    names = ("top1", "top5", "mean_class", "loss")
    rank = ranks(counted.logits, counted.labels)
    columns = np.stack([rank < 1, rank < 5, losses(counted.logits, counted.labels)])  # [3, N]
    classes, labels = np.unique(counted.labels, return_inverse=True)

    def statistic(rows: np.ndarray, axis: int = -1) -> np.ndarray:
        """[4, ...] of resampled rows [..., N]."""
        flat = rows.reshape(-1, rows.shape[-1])  # [R, N]
        top1, top5, loss = (column[flat].mean(-1) for column in columns)
        cells = labels[flat] + len(classes) * np.arange(len(flat))[:, None]
        size = len(classes) * len(flat)
        videos = np.bincount(cells.ravel(), minlength=size).reshape(len(flat), -1)
        hits = np.bincount(cells[columns[0][flat] > 0], minlength=size).reshape(len(flat), -1)
        recall = np.divide(hits, videos, out=np.zeros(videos.shape), where=videos > 0)
        mean_class = recall.sum(-1) / (videos > 0).sum(-1)
        return np.stack([top1, top5, mean_class, loss]).reshape(4, *rows.shape[:-1])

    rows = np.arange(len(counted))
    if len(counted) == 1:  # SciPy wants two
        return {
            name: (value, value)
            for name, value in zip(names, statistic(rows).tolist(), strict=True)
        }
    found = bootstrap(
        (rows,),
        statistic,
        n_resamples=resamples,
        batch=_BATCH,
        vectorized=True,
        confidence_level=level,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return {
        name: (low, high)
        for name, low, high in zip(names, found.low.tolist(), found.high.tolist(), strict=True)
    }
