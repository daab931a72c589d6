"""The models of a report: their names, their numbers, and pairs of them on the same videos."""

import dataclasses
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np

from aia_jax.errors import UserError
from aia_jax.evaluation.align import align
from aia_jax.evaluation.compare import Comparison, compare
from aia_jax.evaluation.intervals import intervals
from aia_jax.evaluation.metrics import (
    Calibration,
    ClassResult,
    LabelResult,
    Summary,
    calibration,
    losses,
    per_class,
    per_label,
    ranks,
    summarize,
)
from aia_jax.evaluation.paper_tables import PaperNumber, find_paper_number
from aia_jax.evaluation.scores import About, Ensemble, Evaluation, Scores, tests

_ALL_PAIRS = 5  # models; of more, each is compared with the first only
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclasses.dataclass(frozen=True)
class Model:
    """A test, with its numbers.

    Attributes:
        number: from 0, which is its colour.
        name: as short as it can be to differ from the other models'.
        file: its score file.
        scores: rows and classes are those of all models.
        summary: of the videos that this model could evaluate.
        intervals: 95%, by the name of the number.
    """

    number: int
    name: str
    file: str
    scores: Scores
    summary: Summary
    intervals: Mapping[str, tuple[float, float]]

    @property
    def letter(self) -> str:
        """A to Z, then A1 to Z1 and so on."""
        turn, number = divmod(self.number, len(_LETTERS))
        return _LETTERS[number] + (str(turn) if turn else "")

    @property
    def about(self) -> About:
        return self.scores.about

    @cached_property
    def classes(self) -> list[ClassResult] | list[LabelResult]:
        return per_label(self.scores) if self.scores.multilabel else per_class(self.scores)

    @cached_property
    def calibration(self) -> Calibration:
        return calibration(self.scores)

    @cached_property
    def predicted(self) -> np.ndarray:
        """int64 [N], the class with the largest logit; arbitrary for videos without scores."""
        return self.scores.logits.argmax(1)

    @cached_property
    def wrong(self) -> np.ndarray:
        """bool [N], videos that this model took for a class that is not theirs."""
        return self.scores.evaluated & (ranks(self.scores.logits, self.scores.labels) > 0)

    @cached_property
    def losses(self) -> np.ndarray:
        """float64 [N], nats; arbitrary for videos without scores."""
        return losses(self.scores.logits, self.scores.labels)

    def probability(self, row: int, label: int) -> float:
        """The probability that the model gives a class of a video."""
        return float(self.scores.probabilities(row)[label])

    @cached_property
    def confidence(self) -> np.ndarray:
        """float64 [N], the probability of the predicted class."""
        return self.scores.probabilities().max(1)

    @property
    def paper(self) -> PaperNumber | None:
        return find_paper_number(self.about)

    @property
    def facts(self) -> list[tuple[str, str]]:
        """What was tested, as names and texts."""
        if isinstance(self.about, Ensemble):
            rows = [("joined by", self.about.rule)]
            for weight, member in zip(self.about.weights, self.about.members, strict=True):
                rows.append((f"member, weight {weight:g}", member.title))
            rows += [
                (f"{what} of {test.title}", value)
                for test in self.about.tests
                for what, value in (("weights", test.weights), ("data", test.data))
            ]
            return [*rows, ("score file", self.file)]
        return [*_test_facts(self.about), ("score file", self.file)]


class Pair(NamedTuple):
    """Two models on the videos that both could evaluate."""

    first: Model
    second: Model
    comparison: Comparison

    @property
    def difference(self) -> float:
        """Top-1 of the second less that of the first."""
        return self.comparison.top1[1] - self.comparison.top1[0]


class ClassRow(NamedTuple):
    """A class that occurs: its number, name, videos, and a value of each model.

    The value is its top-1; of videos with several labels its average precision.
    """

    label: int
    name: str
    videos: int
    values: tuple[float | None, ...]

    @property
    def spread(self) -> float:
        """The largest value less the smallest, or 1 less the value of a single model."""
        known = [value for value in self.values if value is not None] or [1.0]
        return max(known) - min(known) if len(self.values) > 1 else 1 - known[0]


def _part(scores: Scores) -> tuple[str, str, str]:
    """What a report can have one of."""
    return scores.about.dataset, scores.about.split, scores.about.label


def make_models(
    files: Mapping[str, Scores], *, common: bool = False
) -> tuple[list[Model], list[str]]:
    """Computes the numbers of all models.

    Args:
        files: scores by the name of their file; at least one.
        common: see `align`.

    Returns:
        The models, and notes on how their scores were joined.

    Raises:
        UserError: the scores do not belong together, see `align`, or a model evaluated nothing.
    """
    parts = set(map(_part, files.values()))
    if len(parts) > 1:
        found = "; ".join(
            f"{' '.join(filter(None, part))}: "
            + ", ".join(name for name, one in files.items() if _part(one) == part)
            for part in sorted(parts)
        )
        raise UserError(
            "the score files are of different data sets, splits or labels, and a report has one of "
            f"them: name the files that belong together ({found})"
        )
    aligned = align(files, common=common)
    names = _distinct_names(files)
    models = []
    for number, (file, scores) in enumerate(zip(files, aligned.scores, strict=True)):
        if not scores.evaluated.any():
            raise UserError(f"{file}: none of its videos was evaluated; leave it out")
        models.append(
            Model(number, names[file], file, scores, summarize(scores), intervals(scores))
        )
    return models, list(aligned.notes)


def shared_facts(models: Sequence[Model]) -> list[tuple[str, str]]:
    """The facts that all of several models have; none of a single one."""
    if len(models) == 1:
        return []
    return [fact for fact in models[0].facts if all(fact in model.facts for model in models)]


def makes_all_pairs(models: Sequence[Model]) -> bool:
    """Whether the models are few enough for `make_pairs` to compare all pairs."""
    return len(models) <= _ALL_PAIRS


def make_pairs(models: Sequence[Model]) -> list[Pair]:
    """Compares all pairs of a few models, or the first with each of many."""
    if makes_all_pairs(models):
        pairs = list(combinations(models, 2))
    else:
        pairs = [(models[0], model) for model in models[1:]]
    found = []
    for first, second in pairs:
        both = {first.file: first.scores, second.file: second.scores}
        if (first.scores.evaluated & second.scores.evaluated).any():
            found.append(Pair(first, second, compare(both)))
    return found


def class_rows(models: Sequence[Model]) -> list[ClassRow]:
    """Every class by label; a model has no value in a class without videos."""
    number = "ap" if models[0].scores.multilabel else "top1"
    return [
        ClassRow(
            results[0].label,
            results[0].name,
            max(result.videos for result in results),
            tuple(getattr(result, number) for result in results),
        )
        for results in zip(*(model.classes for model in models), strict=True)
    ]


def _distinct_names(files: Mapping[str, Scores]) -> dict[str, str]:
    """A name for each file: network, then protocol, step and the file, until all differ."""
    abouts = {file: scores.about for file, scores in files.items()}
    forms = (
        lambda file, about: _network(about),
        lambda file, about: f"{_network(about)}, {about.protocol}",
        lambda file, about: about.title,
        lambda file, about: f"{about.title} ({_run_name(file)})",
        lambda file, about: f"{about.title} ({file})",
    )
    for form in forms:
        names = {file: form(file, about) for file, about in abouts.items()}
        if len(set(names.values())) == len(names):
            break
    return names


def _network(about: About) -> str:
    networks = " + ".join(dict.fromkeys(test.network for test in tests(about)))
    return f"{networks} (ensemble)" if isinstance(about, Ensemble) else networks


def _run_name(file: str) -> str:
    """The folder of the run whose `scores` folder has the file, else the file's name."""
    path = Path(file)
    return path.parent.parent.name if path.parent.name == "scores" else path.name


def _test_facts(test: Evaluation) -> list[tuple[str, str]]:
    resize = test.resize.replace("x", "×") or "as stored"
    rows = [
        ("network", test.network),
        ("frames × crops × clips", test.protocol),
        ("input", f"{test.crop_size} × {test.crop_size} pixels, of frames {resize}"),
        ("rule of frames and crops", test.sampling),
        ("averaged over views", test.averaging if test.views > 1 else "one view"),
        ("step", "weights that no run has trained" if test.step is None else f"{test.step:,}"),
        ("parameters", f"{test.params:,}"),
        ("MACs of a view", f"{test.macs / 1e9:.4g} G"),
        ("FLOPs as the paper counts", f"{test.paper_flops / 1e9:.4g} G"),
        ("recipe", test.config or "none"),
        ("overrides", ", ".join(test.overrides) or "none"),
        ("weights’ fingerprint", test.weights),
        ("data’s fingerprint", test.data),
    ]
    if test.paper:
        rows.append(("the paper’s number, not measured here", test.paper))
    return rows
