"""EPIC-KITCHENS: verb, noun and action of a segment, from the scores of two runs.

An action is a pair of verb and noun. Its probability is the product of the two, as the benchmark's
own evaluation has it (Damen et al. 2018), and it is right where both are.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
from scipy.special import log_softmax

from aia_jax.errors import UserError
from aia_jax.evaluation.align import align
from aia_jax.evaluation.metrics import Summary, ranks, summarize
from aia_jax.evaluation.scores import Scores

_CELLS = 1 << 22  # products in memory at a time


@dataclasses.dataclass(frozen=True)
class Actions:
    """The numbers of verbs, nouns and actions over the segments that both runs could evaluate.

    Attributes:
        verb: the verbs' numbers.
        noun: the nouns' numbers.
        top1: fraction of segments whose action has the largest probability: both are right.
        top5: fraction whose action is among the five largest.
        evaluated: segments that count.
        expected: segments in both files.
        notes: from `align`.
    """

    verb: Summary
    noun: Summary
    top1: float
    top5: float
    evaluated: int
    expected: int
    notes: tuple[str, ...]


def combine(files: Mapping[str, Scores], *, common: bool = False) -> Actions:
    """Computes the numbers of actions.

    Args:
        files: the verbs' scores, then the nouns', by the name that errors give them.
        common: see `align`.

    Raises:
        UserError: the scores do not belong together, see `align`; they are the wrong way round, or
            of one label; segments have several verbs or nouns; no segment counts.
    """
    _check_labels(files)
    aligned = align(files, common=common, classes=False)
    if not aligned.evaluated.any():
        raise UserError(f"{' and '.join(files)} have no video that both could evaluate")
    verb, noun = (scores.rows(aligned.evaluated) for scores in aligned.scores)
    both = np.all([ranks(scores.logits, scores.labels) < 1 for scores in (verb, noun)], axis=0)
    return Actions(
        verb=summarize(verb),
        noun=summarize(noun),
        top1=float(both.mean()),
        top5=float((action_ranks(verb, noun) < 5).mean()),
        evaluated=len(verb),
        expected=len(aligned.evaluated),
        notes=aligned.notes,
    )


def action_ranks(verb: Scores, noun: Scores) -> np.ndarray:
    """How many actions are more likely than each segment's own: int64 [N].

    Of equal products the lower verb counts as larger, then the lower noun.

    Args:
        verb: of N segments and V verbs.
        noun: of the same segments in the same order, and M nouns.
    """
    count = len(noun.class_names)
    own = verb.labels * count + noun.labels  # the action's number, 0 to V·M − 1
    numbers = np.arange(len(verb.class_names) * count)
    step = max(1, _CELLS // len(numbers))
    found = np.empty(len(own), np.int64)
    for start in range(0, len(own), step):
        rows = slice(start, start + step)
        verbs, nouns = (
            log_softmax(scores.logits[rows].astype(np.float64), axis=1) for scores in (verb, noun)
        )
        actions = (verbs[:, :, None] + nouns[:, None]).reshape(len(verbs), -1)  # [n, V·M]
        mine = np.take_along_axis(actions, own[rows, None], axis=1)
        ahead = (actions > mine) | ((actions == mine) & (numbers < own[rows, None]))
        found[rows] = ahead.sum(1)
    return found


def _check_labels(files: Mapping[str, Scores]) -> None:
    """Checks that two files hold two labels of one data set, the verb's first."""
    (verb, noun), (first, second) = files, (scores.about.label for scores in files.values())
    if several := [name for name, scores in files.items() if scores.multilabel]:
        raise UserError(
            f"{several[0]} has several labels a video, and an action is one verb and one noun; "
            "`metrics` gives the numbers of such scores"
        )
    if first == second:
        raise UserError(
            f"{verb} and {noun} both have scores of the label {first!r}; give the verbs' file "
            "first, then the nouns'"
        )
    if (first, second) == ("noun", "verb"):
        raise UserError(f"{verb} has nouns and {noun} has verbs; give them the other way round")
