"""Two models on the same videos: which videos flipped, McNemar's test, and class by class."""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from aia_jax.errors import UserError
from aia_jax.evaluation.align import align
from aia_jax.evaluation.intervals import map_difference_interval, mean_interval
from aia_jax.evaluation.metrics import per_class, per_label, ranks
from aia_jax.evaluation.multilabel import mean_average_precision
from aia_jax.evaluation.scores import Scores


class Flip(NamedTuple):
    """A video that one of two models has right.

    Attributes:
        video: its id.
        label: its class.
        first: what the first model took it for.
        second: what the second did.
    """

    video: str
    label: str
    first: str
    second: str


class ClassDifference(NamedTuple):
    """The top-1 of both models in a class that occurs; of several labels a video the AP."""

    label: int
    name: str
    videos: int
    first: float
    second: float

    @property
    def difference(self) -> float:
        return self.second - self.first


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Two models on the videos that both could evaluate; A is the first, B the second.

    Where videos have several labels, one is right whose largest logit is of its labels.

    Attributes:
        videos: that count.
        top1: of A and of B.
        interval: of the difference, B's top-1 less A's, by a bootstrap over videos.
        both: videos that both have right.
        only_first: that A alone has right.
        only_second: that B alone has right.
        neither: that both have wrong.
        p_exact: of McNemar's exact test, two-sided: how likely a difference as large is where the
            models are equally good.
        p_mid: the same with half of the observed outcome's probability, which is less cautious.
        lost: the videos of `only_first`, in order.
        gained: the videos of `only_second`, in order.
        classes: that occur, the largest difference first.
        notes: from `align`.
        map: mean average precision of A and of B, for several labels a video; else None.
        map_interval: of the difference of these; None likewise.
    """

    videos: int
    top1: tuple[float, float]
    interval: tuple[float, float]
    both: int
    only_first: int
    only_second: int
    neither: int
    p_exact: float
    p_mid: float
    lost: tuple[Flip, ...]
    gained: tuple[Flip, ...]
    classes: tuple[ClassDifference, ...]
    notes: tuple[str, ...]
    map: tuple[float, float] | None = None
    map_interval: tuple[float, float] | None = None


def compare(files: Mapping[str, Scores], *, common: bool = False) -> Comparison:
    """Compares two models video by video.

    Args:
        files: two scores by the name that errors give them.
        common: see `align`.

    Raises:
        UserError: the scores do not belong together, see `align`, or no video counts.
    """
    aligned = align(files, common=common)
    if not aligned.evaluated.any():
        raise UserError(f"{' and '.join(files)} have no video that both could evaluate")
    first, second = (scores.rows(aligned.evaluated) for scores in aligned.scores)
    predicted = [scores.logits.argmax(1) for scores in (first, second)]
    right = [ranks(scores.logits, scores.labels) < 1 for scores in (first, second)]
    only_first, only_second = right[0] & ~right[1], right[1] & ~right[0]

    def flips(rows: np.ndarray) -> tuple[Flip, ...]:
        return tuple(
            Flip(
                str(first.ids[row]),
                first.label_text(row),
                *(first.class_names[classes[row]] for classes in predicted),
            )
            for row in np.flatnonzero(rows)
        )

    p_exact, p_mid = mcnemar(int(only_first.sum()), int(only_second.sum()))
    precisions, precision_interval = None, None
    if first.multilabel and first.labels.any():
        ours, theirs = (mean_average_precision(one.logits, one.labels) for one in (first, second))
        precisions, precision_interval = (ours, theirs), map_difference_interval(first, second)
    return Comparison(
        videos=len(first),
        top1=(float(right[0].mean()), float(right[1].mean())),
        interval=mean_interval(right[1].astype(np.float64) - right[0]),
        both=int((right[0] & right[1]).sum()),
        only_first=int(only_first.sum()),
        only_second=int(only_second.sum()),
        neither=int((~right[0] & ~right[1]).sum()),
        p_exact=p_exact,
        p_mid=p_mid,
        lost=flips(only_first),
        gained=flips(only_second),
        classes=_class_differences(first, second),
        notes=aligned.notes,
        map=precisions,
        map_interval=precision_interval,
    )


def mcnemar(only_first: int, only_second: int) -> tuple[float, float]:
    """McNemar's test of two paired models, exact and mid-p, two-sided.

    Where both are equally good, each video that one of them alone has right is a toss of a coin.

    Args:
        only_first: videos that the first alone has right.
        only_second: that the second alone has right.

    Returns:
        Twice the probability of as few in the smaller number, at most 1; and twice that of fewer
        with half of that of as few.
    """
    from scipy.stats import binom, binomtest

    flipped, fewer = only_first + only_second, min(only_first, only_second)
    if not flipped:
        return 1.0, 1.0
    exact = float(binomtest(fewer, flipped).pvalue)
    mid = 2 * float(binom.cdf(fewer, flipped, 0.5) - binom.pmf(fewer, flipped, 0.5) / 2)
    return exact, min(1.0, mid)


def _class_differences(first: Scores, second: Scores) -> tuple[ClassDifference, ...]:
    results, number = (per_label, "ap") if first.multilabel else (per_class, "top1")
    pairs = zip(results(first), results(second), strict=True)
    rows = [
        ClassDifference(
            *(ours.label, ours.name, ours.videos, getattr(ours, number), getattr(theirs, number))
        )
        for ours, theirs in pairs
        if ours.videos
    ]
    return tuple(sorted(rows, key=lambda row: (-abs(row.difference), row.label)))
