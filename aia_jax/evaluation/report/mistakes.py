"""Chooses the videos that a report shows: the hardest, and the most confident mistakes."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from aia_jax.evaluation.report.models import Model


class Group(NamedTuple):
    """Videos to show under a title; `rows` are those of the models' scores."""

    title: str
    about: str
    rows: tuple[int, ...]


def choose_mistakes(models: Sequence[Model], hardest: int, confident: int) -> list[Group]:
    """Chooses videos that at least one model took for another class.

    Args:
        models: of the report.
        hardest: videos with the largest mean loss over the models.
        confident: of each model, mistakes with the largest probability.

    Returns:
        A group of the hardest, and one for each model that has mistakes.
    """
    evaluated = np.all([model.scores.evaluated for model in models], axis=0)
    wrong = np.any([model.wrong for model in models], axis=0) & evaluated
    loss = np.mean([model.losses for model in models], axis=0)
    mean = "mean of all models" if len(models) > 1 else "this model"
    groups = [Group("Hardest videos", f"largest loss, {mean}", _largest(loss, wrong, hardest))]
    groups += [
        Group(
            f"Most confident mistakes of {model.letter}",
            f"{model.name}: largest probability of a wrong class",
            _largest(model.confidence, model.wrong, confident),
        )
        for model in models
    ]
    return [group for group in groups if group.rows]


def _largest(values: np.ndarray, mask: np.ndarray, count: int) -> tuple[int, ...]:
    """The rows with the largest values among those of the mask, the largest first."""
    rows = np.flatnonzero(mask)
    return tuple(rows[np.argsort(-values[rows], kind="stable")[:count]].tolist())
