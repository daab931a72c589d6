"""Joins the scores of several tests: the paper's Table II averages 8, 12 and 16 frames."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import log_softmax, logsumexp

from aia_jax.errors import UserError
from aia_jax.evaluation.align import align
from aia_jax.evaluation.multilabel import mean_of_sigmoids
from aia_jax.evaluation.scores import Ensemble, Evaluation, Scores, identity, tests


class Rule(NamedTuple):
    """A way to join models.

    Attributes:
        title: for people.
        join: float64 logits [M, N, K] and weights [M] → logits [N, K].
        join_sets: the same for several labels a video, whose probabilities are sigmoids; None: it
            has no meaning there.
        needs_logits: whether the logarithms of averaged probabilities cannot stand for logits.
    """

    title: str
    join: Callable[[np.ndarray, np.ndarray], np.ndarray]
    join_sets: Callable[[np.ndarray, np.ndarray], np.ndarray] | None
    needs_logits: bool = False


def _mean_logits(logits: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return np.tensordot(weights / weights.sum(), logits, axes=1)


def _mean_probabilities(logits: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The logarithm of the mean, which is taken before small probabilities are rounded to 0."""
    shares = (weights / weights.sum())[:, None, None]
    return logsumexp(log_softmax(logits, axis=2), axis=0, b=shares)


def _mean_sigmoids(logits: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return mean_of_sigmoids(logits, 0, (weights / weights.sum())[:, None, None])


def _sum_positive(logits: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return np.tensordot(weights, np.maximum(logits, 0), axes=1)


RULES: Mapping[str, Rule] = {
    "logits": Rule("mean of the logits, as the paper's Table II", _mean_logits, _mean_logits),
    "probabilities": Rule("mean of the probabilities", _mean_probabilities, _mean_sigmoids),
    # For sigmoids no class of such a sum would have a probability below 0.5.
    "h2cn": Rule("sum of max(logit, 0), as H2CN joins two models", _sum_positive, None, True),
}


def join(
    files: Mapping[str, Scores],
    weights: Sequence[float] | None = None,
    rule: str = "logits",
    *,
    common: bool = False,
) -> tuple[Scores, tuple[str, ...]]:
    """Joins the scores of several tests on the same videos.

    A video counts where every member could evaluate it.

    Args:
        files: two or more scores by the name that errors give them.
        weights: of the members, positive; None: all the same.
        rule: a key of `RULES`.
        common: see `align`.

    Returns:
        The ensemble's scores, in the order of the first member's videos and classes, and notes for
        a person.

    Raises:
        UserError: the scores do not belong together, see `align`; too few of them; weights that do
            not fit; a rule that does not exist or does not suit a member.
    """
    if rule not in RULES:
        raise UserError(f"there is no rule {rule!r}; rules: {', '.join(RULES)}")
    if len(files) < 2:
        raise UserError(f"an ensemble has two score files or more, found {len(files)}")
    shares = np.ones(len(files)) if weights is None else np.asarray(weights, np.float64)
    if len(shares) != len(files):
        raise UserError(
            f"found {len(shares)} weights for {len(files)} score files; give one for each"
        )
    if not (np.isfinite(shares) & (shares > 0)).all():
        raise UserError(
            f"the weights are {', '.join(f'{w:g}' for w in shares)}; all must be above 0"
        )
    for name, scores in files.items():
        if scores.multilabel and RULES[rule].join_sets is None:
            raise UserError(
                f"the rule {rule} has no meaning for several labels a video, which {name} has; "
                "take --rule logits or probabilities"
            )
        if RULES[rule].needs_logits and not _has_logits(scores):
            raise UserError(
                f"the rule {rule} needs logits, {name} has averaged probabilities; test that model "
                "with --average logits"
            )
    aligned = align(files, common=common)
    first = aligned.scores[0]
    logits = np.stack([scores.logits for scores in aligned.scores]).astype(np.float64)
    chosen = RULES[rule]
    joined_logits = (chosen.join_sets if first.multilabel else chosen.join)(logits, shares)
    logits = joined_logits.astype(np.float32)
    logits[~aligned.evaluated] = 0
    about = Ensemble(rule, tuple(shares.tolist()), tuple(scores.about for scores in files.values()))
    joined = Scores(about, first.ids, first.labels, first.class_names, logits, aligned.evaluated)
    return joined, (*aligned.notes, *_repeated(files))


def _repeated(files: Mapping[str, Scores]) -> list[str]:
    """Notes that name the files of one test, which has the weight of several then."""
    names: dict[str, list[str]] = {}
    for name, scores in files.items():
        if isinstance(scores.about, Evaluation):
            names.setdefault(identity(scores.about, ()), []).append(name)
    return [
        f"{' and '.join(same)} are of the same weights, data and protocol"
        for same in names.values()
        if len(same) > 1
    ]


def _has_logits(scores: Scores) -> bool:
    if isinstance(scores.about, Ensemble) and scores.about.rule == "probabilities":
        return False
    return all(test.averaging == "logits" for test in tests(scores.about))
