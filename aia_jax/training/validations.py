"""The validations of a run: whether they end it early, and what they say of it at its end."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from aia_jax.checkpoints.ranking import metric_name, metric_text, score_of, step_of_highest
from aia_jax.training.curves import CURVES_FILE


class Validations:
    """All validations up to a step, which every checkpoint keeps: so a run goes on exactly.

    A run ends early after `patience` validations in a row of which none is better than the best one
    before them. Early stopping is decided at a validation only, and by the checkpoint's own
    history: whatever lies in the run's folder, the same step gives the same decision.

    Attributes:
        rows: {"step", and the metrics} of each, in their order; JSON.
    """

    def __init__(self, best_by: str, patience: int, meta: Mapping[str, Any]):
        """Goes on after a checkpoint.

        Args:
            best_by: the metric that counts, from `ranking.choose_metric`.
            patience: the config's `train.patience`; 0 ends no run.
            meta: of the checkpoint; {} for a new run. One of an older version keeps no history:
                there the count begins with its own validation.
        """
        self.best_by, self.patience = best_by, patience
        self.rows: list[dict[str, Any]] = list(meta.get("validations", ()))
        if meta.get("metrics"):
            self.add(meta["position"], meta["metrics"])

    def add(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Takes the metrics of the validation after `step`."""
        self.rows.append({"step": step, **metrics})

    @property
    def best(self) -> dict[str, Any] | None:
        """The row of the best one, the earliest of equals; None if no row has the metric."""
        return None if (index := self._best_index()) is None else self.rows[index]

    @property
    def without_better(self) -> int:
        """How many validations have come since the best one; those without the metric not."""
        index = self._best_index()
        later = self.rows[0 if index is None else index + 1 :]
        return sum(self.best_by in row for row in later)

    def end_run(self, step: int) -> bool:
        """Whether the run ends after `step`, which may be before its last step.

        Every host must ask; the answer of the first one counts.
        """
        if not self.patience or not self.rows or self.rows[-1]["step"] != step:
            return False
        ends = self.without_better >= self.patience
        if jax.process_count() > 1:
            ends = bool(multihost_utils.broadcast_one_to_all(np.array(ends)))
        return ends

    def _best_index(self) -> int | None:
        scores = (score_of(row, self.best_by) for row in self.rows)
        return step_of_highest(
            {index: score for index, score in enumerate(scores) if score is not None}
        )


def describe_end(
    validations: Validations, best_step: int | None, step: int, total_steps: int, workdir: Path
) -> str:
    """What a finished run says: why it ended, its best step, and the command to type next.

    Args:
        validations: of the run.
        best_step: from `Checkpoints.best_step`.
        step: the last one.
        total_steps: at which the run would have ended.
        workdir: the run's folder.
    """
    name = metric_name(validations.best_by)
    ended = "finished"
    if step < total_steps:
        count, best = validations.without_better, validations.best
        than = "" if best is None else f" than that of step {best['step']:,}"
        last = "the last validation" if count == 1 else f"the last {count} validations"
        ended = (
            f"finished early, after step {step:,} of {total_steps:,}: {last} had no better "
            f"{name}{than}; --config.train.patience={count + 1} or more goes on"
        )
    found = f"no step has a {name} to be the best by"
    if best_step is not None:
        row = next((row for row in validations.rows if row["step"] == best_step), None)
        number = f", {metric_text(validations.best_by, row)} in validation" if row else ""
        found = f"the best is step {best_step}{number}"
    test = f"python eval.py --workdir {shlex.quote(str(workdir))}"
    if best_step is not None:
        test += f" --step {best_step}"
    return (
        f"{ended}\n{found}; checkpoints in {workdir / 'checkpoints'}, curves in "
        f"{workdir / CURVES_FILE}\nto test it: {test}"
    )
