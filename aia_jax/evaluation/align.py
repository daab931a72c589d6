"""Brings the scores of several models to the same videos and classes in the same order."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from aia_jax.errors import UserError
from aia_jax.evaluation.scores import Scores, tests

_MAX_NAMED = 3  # names that an error has before it says how many more there are


@dataclasses.dataclass(frozen=True)
class Aligned:
    """Scores whose rows are the same videos, and in `classes` columns the same classes.

    Attributes:
        scores: of each model, in the order of the first one's videos.
        evaluated: bool [N], the videos that every model could evaluate.
        notes: what a person should know about the join, a line each.
    """

    scores: tuple[Scores, ...]
    evaluated: np.ndarray
    notes: tuple[str, ...]


def align(files: Mapping[str, Scores], *, common: bool = False, classes: bool = True) -> Aligned:
    """Maps scores to the first one's videos by their ids, and to its classes by their names.

    Args:
        files: scores by the name that errors and notes give them; at least one.
        common: takes the videos that all have, where the videos differ, instead of refusing them.
        classes: whether all have the same classes and labels; False for verbs and nouns, whose
            columns stay as they are.

    Raises:
        UserError: other videos, other classes, or a video with another label; names them.
    """
    (first, reference), *others = files.items()
    notes: list[str] = []
    for name, one in others:
        if one.multilabel != reference.multilabel:
            several, single = (name, first) if one.multilabel else (first, name)
            raise UserError(
                f"{several} has several labels a video, {single} has one; give scores of one data "
                "set and label"
            )
    if classes:
        files = {name: _align_classes(first, reference, name, one) for name, one in files.items()}
    ids = reference.ids
    for name, one in others:
        missing, extra = _difference(ids.tolist(), one.ids.tolist())
        if not missing and not extra:
            continue
        if not common:
            raise UserError(
                f"{name} has other videos than {first}: "
                f"{_describe('videos', missing, first, extra, name)}; test both on the same split, "
                "or take what they share with --common-videos"
            )
        ids = ids[np.isin(ids, one.ids)]
    if not len(ids):
        raise UserError(f"{' and '.join(files)} have no video in common; test them on one split")
    if len(ids) < max(map(len, files.values())):
        notes.append(
            f"{len(ids):,} videos are in all files and count: "
            + ", ".join(f"{name} has {len(one):,}" for name, one in files.items())
        )
    aligned = [_align_videos(ids, one) for one in files.values()]
    if classes:
        for name, one in zip(files, aligned, strict=True):
            _check_labels(first, aligned[0], name, one)
    evaluated = np.all([one.evaluated for one in aligned], axis=0)
    for name, one in zip(files, aligned, strict=True):
        if not one.evaluated.all():
            missing = (~one.evaluated).sum()
            notes.append(f"{name} lacks the scores of {missing:,} of its videos: they do not count")
    notes += _data_notes(files)
    return Aligned(tuple(aligned), evaluated, tuple(notes))


def _align_classes(first: str, reference: Scores, name: str, scores: Scores) -> Scores:
    """Sorts the columns of `scores` as the reference has its classes."""
    if scores.class_names == reference.class_names:
        return scores
    missing, extra = _difference(reference.class_names, scores.class_names)
    if missing or extra:
        raise UserError(
            f"{name} has other classes than {first} ({len(scores.class_names)} and "
            f"{len(reference.class_names)}): {_describe('classes', missing, first, extra, name)}; "
            "give scores of one data set and label"
        )
    column = {class_name: label for label, class_name in enumerate(scores.class_names)}
    order = np.array([column[class_name] for class_name in reference.class_names])
    new_label = np.empty_like(order)
    new_label[order] = np.arange(len(order))
    views = None if scores.view_logits is None else scores.view_logits[..., order]
    return dataclasses.replace(
        scores,
        labels=scores.labels[:, order] if scores.multilabel else new_label[scores.labels],
        class_names=reference.class_names,
        logits=scores.logits[:, order],
        view_logits=views,
    )


def _align_videos(ids: np.ndarray, scores: Scores) -> Scores:
    """Sorts the rows of `scores` as `ids`, which are among its own."""
    if np.array_equal(ids, scores.ids):
        return scores
    row_of = scores.row_of
    return scores.rows(np.array([row_of[video] for video in ids.tolist()]))


def _check_labels(first: str, reference: Scores, name: str, scores: Scores) -> None:
    differs = scores.labels != reference.labels
    differs = differs.any(1) if scores.multilabel else differs
    # A damaged record hides its label, and what stands in its place says nothing.
    wrong = np.flatnonzero(differs & reference.evaluated & scores.evaluated)
    if not len(wrong):
        return
    row = wrong[0]
    ours, theirs = reference.label_text(row), scores.label_text(row)
    raise UserError(
        f"{first} and {name} disagree on the class of {len(wrong):,} of {len(scores):,} videos: "
        f"{scores.ids[row]} is {ours!r} in {first}, {theirs!r} in {name}; one of them was tested "
        "on other annotations: test it again"
    )


def _data_notes(files: Mapping[str, Scores]) -> list[str]:
    """Says which files were tested on data that was prepared otherwise."""
    fingerprints: dict[frozenset[str], list[str]] = {}
    for name, scores in files.items():
        data = frozenset(test.data for test in tests(scores.about))
        fingerprints.setdefault(data, []).append(name)
    if len(fingerprints) < 2:
        return []
    groups = [
        f"{', '.join(names)} on {' and '.join(value[:12] or 'unknown' for value in sorted(data))}"
        for data, names in fingerprints.items()
    ]
    return [
        "the data were prepared in different ways (other fingerprints), with the same videos and "
        f"labels: {'; '.join(groups)}"
    ]


def _difference(ours: Sequence[str], theirs: Sequence[str]) -> tuple[list[str], list[str]]:
    """The names that only the first has, and those that only the second has, in their order."""
    in_ours, in_theirs = set(ours), set(theirs)
    return (
        [name for name in ours if name not in in_theirs],
        [name for name in theirs if name not in in_ours],
    )


def _describe(noun: str, missing: list[str], first: str, extra: list[str], name: str) -> str:
    parts = []
    for names, file in ((missing, first), (extra, name)):
        if names:
            shown = ", ".join(repr(one) for one in names[:_MAX_NAMED])
            more = ", …" if len(names) > _MAX_NAMED else ""
            parts.append(f"{len(names):,} {noun} only in {file} ({shown}{more})")
    return " and ".join(parts)
