"""Prints metrics, comparisons and actions for people, and gives them as plain values for JSON."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from aia_jax.evaluation import intervals as bootstrap
from aia_jax.evaluation import metrics
from aia_jax.evaluation.actions import Actions
from aia_jax.evaluation.compare import ClassDifference, Comparison, Flip
from aia_jax.evaluation.score_files import about_json
from aia_jax.evaluation.scores import Scores

# Title and name of the numbers that are percentages; a test has one of the last two.
_PERCENTAGES = (
    ("top-1", "top1"),
    ("top-5", "top5"),
    ("mean-class", "mean_class_accuracy"),
    ("mAP", "map"),
)
_WIDTH = 100  # columns, where the output is no terminal


def make_console() -> Console:
    """A console that prints names as they are: no mark-up, no emoji, no colours of its own."""
    console = Console(markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        console.width = _WIDTH
    return console


def metrics_json(name: str, scores: Scores, resamples: int, bins: int) -> dict[str, Any]:
    """Everything that `show_metrics` prints and all classes and pairs, as plain values."""
    content = {
        "file": name,
        **metrics.summarize(scores, bins).numbers(),
        "intervals": {
            "level": bootstrap.LEVEL,
            "resamples": resamples,
            **bootstrap.intervals(scores, resamples),
        },
    }
    about = about_json(scores.about)
    if scores.multilabel:
        classes = [one._asdict() for one in metrics.per_label(scores)]
        return {**content, "per_class": classes, "about": about}
    calibration = metrics.calibration(scores, bins)
    return {
        **content,
        "calibration": {
            "edges": calibration.edges.tolist(),
            "videos": calibration.videos.tolist(),
            "confidence": _without_nan(calibration.confidence.tolist()),
            "accuracy": _without_nan(calibration.accuracy.tolist()),
        },
        "per_class": [one._asdict() for one in metrics.per_class(scores)],
        "confused_pairs": [pair._asdict() for pair in metrics.confused_pairs(scores)],
        "about": about,
    }


def show_metrics(
    console: Console, name: str, scores: Scores, *, resamples: int, bins: int, rows: int
) -> None:
    """Prints a test's numbers, its weakest classes and the pairs that it confuses most.

    Args:
        console: from `make_console`.
        name: of the score file.
        scores: of the test.
        resamples: of the bootstrap.
        bins: of the calibration error.
        rows: classes and pairs to print.
    """
    summary = metrics.summarize(scores, bins)
    found = bootstrap.intervals(scores, resamples)
    _head(console, name, scores)
    table = _table("", "", f"{bootstrap.LEVEL:.0%} interval")
    numbers = summary.numbers()
    for title, key in _PERCENTAGES:
        if key in numbers:
            low, high = found[key]
            table.add_row(title, f"{numbers[key]:.2%}", f"{low:.2%} to {high:.2%}")
    low, high = found["loss"]
    table.add_row("loss, nats", f"{summary.loss:.4f}", f"{low:.4f} to {high:.4f}")
    if summary.ece is not None:
        table.add_row(f"calibration error, {bins} bins", f"{summary.ece:.2%}", "")
    console.print(table)
    console.print(
        f"{summary.evaluated:,} of {summary.expected:,} videos evaluated; {summary.classes} of "
        f"{len(scores.class_names)} classes occur. Intervals: {resamples:,} resamples of videos."
    )
    if scores.multilabel:
        console.print(
            "Videos have several labels: top-1 is the share whose largest logit is one of them, "
            "and there are no calibration error and no confused pairs."
        )
    if rows and scores.multilabel:
        _show_labels(console, scores, rows)
    elif rows:
        _show_weakest(console, scores, rows)


def _show_labels(console: Console, scores: Scores, rows: int) -> None:
    """Prints the classes of the least average precision."""
    classes = [one for one in metrics.per_label(scores) if one.videos]
    classes.sort(key=lambda one: (one.ap, -one.videos, one.label))
    table = _table("label", "videos", "AP", "precision", "recall", title="Weakest classes")
    table.add_column("class", overflow="fold")
    for one in classes[:rows]:
        cells = (_percent(value) for value in (one.ap, one.precision, one.recall))
        table.add_row(str(one.label), f"{one.videos:,}", *cells, one.name)
    console.print(table)
    console.print("Precision and recall are of the answers with a probability of 0.5 or more.")


def _show_weakest(console: Console, scores: Scores, rows: int) -> None:
    """Prints the classes of the least top-1, and the pairs that are confused most."""
    classes = [one for one in metrics.per_class(scores) if one.videos]
    classes.sort(key=lambda one: (one.top1, -one.videos, one.label))
    table = _table("label", "videos", "top-1", "top-5", "precision", title="Weakest classes")
    table.add_column("class", overflow="fold")
    for one in classes[:rows]:
        cells = (_percent(value) for value in (one.top1, one.top5, one.precision))
        table.add_row(str(one.label), f"{one.videos:,}", *cells, one.name)
    console.print(table)
    pairs = metrics.confused_pairs(scores, rows)
    if pairs:
        table = _table("videos", "of its class", title="Most confused pairs")
        table.add_column("class", overflow="fold")
        table.add_column("taken for", overflow="fold")
        for pair in pairs:
            names = (scores.class_names[label] for label in (pair.label, pair.predicted))
            table.add_row(f"{pair.videos:,}", _percent(pair.share), *names)
        console.print(table)


def comparison_json(files: Mapping[str, Scores], comparison: Comparison) -> dict[str, Any]:
    """A comparison as plain values; "first" and "second" are the files in this order."""
    first, second = (
        {"file": name, "about": about_json(scores.about)} for name, scores in files.items()
    )
    fields = dataclasses.asdict(comparison)
    return {
        "first": first,
        "second": second,
        **{key: value for key, value in fields.items() if value is not None},
        "lost": [flip._asdict() for flip in comparison.lost],
        "gained": [flip._asdict() for flip in comparison.gained],
        "classes": [{**one._asdict(), "difference": one.difference} for one in comparison.classes],
    }


def show_comparison(
    console: Console, files: Mapping[str, Scores], comparison: Comparison, *, rows: int
) -> None:
    """Prints two models side by side.

    Args:
        console: from `make_console`.
        files: the two scores by name.
        comparison: from `compare`.
        rows: flipped videos of each kind, and classes, to print.
    """
    for letter, (name, scores) in zip("AB", files.items(), strict=True):
        _head(console, f"{letter}: {name}", scores)
    first, second = comparison.top1
    low, high = comparison.interval
    table = _table("", "")
    table.add_row("top-1 of A", f"{first:.2%}")
    table.add_row("top-1 of B", f"{second:.2%}")
    table.add_row("B − A, points", f"{100 * (second - first):+.2f}")
    table.add_row(
        f"{bootstrap.LEVEL:.0%} interval of B − A", f"{100 * low:+.2f} to {100 * high:+.2f}"
    )
    if comparison.map and comparison.map_interval:
        first, second = comparison.map
        low, high = comparison.map_interval
        table.add_row("mAP of A", f"{first:.2%}")
        table.add_row("mAP of B", f"{second:.2%}")
        table.add_row("B − A of mAP, points", f"{100 * (second - first):+.2f}")
        table.add_row("its interval", f"{100 * low:+.2f} to {100 * high:+.2f}")
    table.add_row("both right", f"{comparison.both:,}")
    table.add_row("only A right", f"{comparison.only_first:,}")
    table.add_row("only B right", f"{comparison.only_second:,}")
    table.add_row("both wrong", f"{comparison.neither:,}")
    for title, p in (("exact p", comparison.p_exact), ("mid-p", comparison.p_mid)):
        table.add_row(f"McNemar, {title}", f"{p:.2g}" if p >= 1e-4 else "below 0.0001")
    console.print(table)
    console.print(f"{comparison.videos:,} videos, each tested by both.")
    if not rows:
        return
    changed = [one for one in comparison.classes if one.difference]
    value = " (average precision)" if comparison.map else ""
    _show_classes(console, f"Classes in which B is better{value}", changed, 1, rows)
    _show_classes(console, f"Classes in which A is better{value}", changed, -1, rows)
    _show_flips(console, "Right in A only", comparison.lost, rows)
    _show_flips(console, "Right in B only", comparison.gained, rows)


def ensemble_json(members: Mapping[str, metrics.Summary], joined: Scores) -> dict[str, Any]:
    """An ensemble's numbers and its members', as plain values."""
    return {
        **metrics.summarize(joined).numbers(),
        "members": [{"file": name, **one.numbers()} for name, one in members.items()],
        "about": about_json(joined.about),
    }


def show_ensemble(console: Console, members: Mapping[str, metrics.Summary], joined: Scores) -> None:
    """Prints the numbers of the members and of the ensemble, a row each."""
    _head(console, "ensemble", joined)
    title, key = _PERCENTAGES[3 if joined.multilabel else 2]
    table = _table("", "weight", "top-1", "top-5", title, "loss", "videos")
    short = [Path(name).name for name in members]
    names = short if len(set(short)) == len(short) else list(members)
    weights = [f"{weight:g}" for weight in joined.about.weights]
    rows = [*zip(names, weights, members.values(), strict=True)]
    rows.append(("ensemble", "", metrics.summarize(joined)))
    for name, weight, one in rows:
        table.add_row(
            *(name, weight, _percent(one.top1), _percent(one.top5), _percent(getattr(one, key))),
            *(f"{one.loss:.4f}", f"{one.evaluated:,}"),
        )
    console.print(table)


def actions_json(files: Mapping[str, Scores], actions: Actions) -> dict[str, Any]:
    """Verbs, nouns and actions as plain values."""
    verb, noun = files
    return {"files": {"verb": verb, "noun": noun}, **dataclasses.asdict(actions)}


def show_actions(console: Console, files: Mapping[str, Scores], actions: Actions) -> None:
    """Prints the numbers of verbs, nouns and actions."""
    for letter, (name, scores) in zip(("verbs", "nouns"), files.items(), strict=True):
        _head(console, f"{letter}: {name}", scores)
    table = _table("", "top-1", "top-5", "mean-class")
    for title, one in (("verb", actions.verb), ("noun", actions.noun)):
        table.add_row(title, *map(_percent, (one.top1, one.top5, one.mean_class_accuracy)))
    table.add_row("action", _percent(actions.top1), _percent(actions.top5), "")
    console.print(table)
    console.print(
        f"{actions.evaluated:,} of {actions.expected:,} segments evaluated. An action is right "
        "where verb and noun are; its top-5 is by the product of their probabilities."
    )


def _show_classes(
    console: Console, title: str, classes: Sequence[ClassDifference], sign: int, rows: int
) -> None:
    shown = [one for one in classes if one.difference * sign > 0]
    if not shown:
        return
    table = _table("label", "videos", "A", "B", "B − A", title=f"{title}: {len(shown)}")
    table.add_column("class", overflow="fold")
    for one in shown[:rows]:
        difference = f"{100 * one.difference:+.1f}"
        table.add_row(
            *(str(one.label), f"{one.videos:,}", _percent(one.first), _percent(one.second)),
            *(difference, one.name),
        )
    console.print(table)


def _show_flips(console: Console, title: str, flips: Sequence[Flip], rows: int) -> None:
    if not flips:
        return
    table = Table(title=f"{title}: {len(flips):,} videos", title_justify="left")
    for heading in ("video", "class", "A says", "B says"):
        table.add_column(heading, overflow="fold")
    for flip in flips[:rows]:
        table.add_row(*flip)
    console.print(table)


def _head(console: Console, name: str, scores: Scores) -> None:
    about = scores.about
    console.print(name, style="bold")
    dataset = f"{about.dataset}, " if about.dataset else ""
    label = "" if about.label == "label" else f", {about.label}"
    console.print(f"{about.title}; {dataset}{about.split}{label}")


def _table(*headings: str, title: str | None = None) -> Table:
    """A table whose first column stands left, if it has no heading, and all others right."""
    table = Table(title=title, title_justify="left", show_header=any(headings))
    for number, heading in enumerate(headings):
        left = number == 0 and not heading
        table.add_column(heading, justify="left" if left else "right", overflow="fold")
    return table


def _percent(value: float | None) -> str:
    return "—" if value is None else f"{value:.1%}"


def _without_nan(values: Sequence[float]) -> list[float | None]:
    return [None if math.isnan(value) else value for value in values]
