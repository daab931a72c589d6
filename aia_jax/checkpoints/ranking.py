"""Which of a run's checkpoints is the best, by which metric of its validation, and which stay."""

import math
from collections.abc import Container, Mapping, Sequence
from typing import Any

from orbax.checkpoint import checkpoint_managers

from aia_jax.errors import UserError

TOP1, _LOSS, _MEAN_CLASS, _MAP = "top1", "loss", "mean_class_accuracy", "map"

# Metric → how a number of it is told. Of the loss the lowest is the best, of the others the
# highest.
_TEXTS = {
    TOP1: "top-1 {:.2%}",
    "top5": "top-5 {:.2%}",
    _LOSS: "loss {:.4f}",
    _MEAN_CLASS: "mean-class accuracy {:.2%}",
    _MAP: "mAP {:.2%}",
}


def choose_metric(best_by: str, label_kind: str) -> str:
    """The metric that ranks the checkpoints of a run.

    Args:
        best_by: the config's `train.best_by`; "" for the usual one.
        label_kind: the config's `data.label_kind`, which is "multi" for several labels a video.

    Raises:
        UserError: data of that kind have no such metric.
    """
    multi = label_kind == "multi"
    if not best_by:
        return _MAP if multi else TOP1
    if best_by == (_MEAN_CLASS if multi else _MAP):
        others = [name for name in _TEXTS if name != best_by]
        kind = "several labels" if multi else "one label"
        raise UserError(
            f"config key train.best_by: found {best_by}, which data with {kind} a video do not "
            f"have; expected {', '.join(others[:-1])} or {others[-1]}"
        )
    return best_by


def metric_name(metric: str) -> str:
    """A metric as it is told, such as "top-1"."""
    return _TEXTS[metric].rpartition(" ")[0]


def metric_text(metric: str, metrics: Mapping[str, Any]) -> str:
    """A metric's name and its number in `metrics`, such as "top-1 45.80%"."""
    return _TEXTS[metric].format(metrics[metric])


def ranked_by(meta: Mapping[str, Any]) -> str:
    """The metric that ranked the checkpoints of the run that saved `meta`.

    A checkpoint of an older version does not say it: there it was top-1.
    """
    return meta.get("best_by") or TOP1


def score_of(metrics: Mapping[str, Any] | None, best_by: str) -> float | None:
    """How good a validation was: of two scores the higher is the better, of a loss too.

    None where there was no validation, it has no such metric, or the metric is not a number.
    """
    value = (metrics or {}).get(best_by)
    if not isinstance(value, int | float) or math.isnan(value):
        return None
    return -value if best_by == _LOSS else value


def step_of_highest(scores: Mapping[int, float]) -> int | None:
    """The step with the highest score, the earliest of equals; None if there are no scores."""
    return max(sorted(scores), key=scores.__getitem__, default=None)


class LatestAndBest(checkpoint_managers.PreservationPolicy):
    """Preserves the latest steps, the best one, and those whose score cannot be read.

    Orbax's `BestN` would read its scores from a file that no digest covers.
    """

    def __init__(self, latest: int, scores: Mapping[int, float], unreadable: Container[int]):
        self.latest, self.scores, self.unreadable = latest, scores, unreadable

    def should_preserve(self, checkpoints: Any, *, context: Any) -> list[bool]:
        steps = [checkpoint.step for checkpoint in checkpoints]
        preserved = self.preserved(steps)
        return [step in preserved for step in steps]

    def preserved(self, steps: Sequence[int]) -> set[int]:
        """Those of `steps` (ascending) that stay."""
        scores = {step: score for step, score in self.scores.items() if step in steps}
        unreadable = {step for step in steps if step in self.unreadable}
        best = step_of_highest(scores)
        return {*steps[-self.latest :], *(() if best is None else (best,))} | unreadable
