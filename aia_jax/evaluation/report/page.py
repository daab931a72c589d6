"""Fills and writes the page: numbers, pictures and clips of all models in one HTML file."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from aia_jax import html
from aia_jax.evaluation.intervals import RESAMPLES
from aia_jax.evaluation.metrics import confused_pairs, confusion
from aia_jax.evaluation.report.mistakes import Group, choose_mistakes
from aia_jax.evaluation.report.models import (
    Model,
    class_rows,
    make_models,
    make_pairs,
    makes_all_pairs,
    shared_facts,
)
from aia_jax.evaluation.report.pictures import (
    calibration_chart,
    confusion_cells,
    confusion_picture,
)
from aia_jax.evaluation.score_files import writing
from aia_jax.evaluation.scores import About, Scores
from aia_jax.files import write_text

PAGE = "report.html"
STRIPS = 6  # hardest videos; half as many mistakes of each model
GRADCAM = 3  # videos with a row of maps for each model

_FOLDER = Path(__file__).parent
_MOST_FLIPS = 100  # of each kind, that a pair of models lists
_MOST_PAIRS = 50  # confused pairs of a model
_BARS = 12  # classes
_TABLE = 16  # classes up to which a confusion matrix is a table
_MOST_CELLS = 40_000  # of a confusion matrix, that the page's script knows


def write_report(
    files: Mapping[str, Scores],
    path: Path,
    *,
    data: Path | None = None,
    strips: int = STRIPS,
    gradcam: int = GRADCAM,
    common: bool = False,
    title: str = "",
) -> tuple[int, list[str]]:
    """Writes the page, completely or not at all.

    Args:
        files: scores by the path of their file, whose run gives frames and weights; at least one.
        path: of the page; its folder is made if needed.
        data: the prepared data that were tested; None: those of the runs.
        strips: the hardest videos that are shown, and half as many mistakes of each model; 0: none.
        gradcam: how many of them get a row of maps for each model.
        common: takes the videos that all files have, see `align`.
        title: of the page; "": data set and split.

    Returns:
        Bytes of the page, and the notes that it has.

    Raises:
        UserError: the scores do not belong together, or the page cannot be written.
    """
    models, notes = make_models(files, common=common)
    about = models[0].about
    title = title or f"{_data_name(about)}, {about.split}: test report"
    groups = choose_mistakes(models, strips, (strips + 1) // 2)
    images, clip_notes = _images(models, groups, gradcam, data)
    context = {
        "title": title,
        "notes": notes,
        "clip_notes": clip_notes,
        "any_maps": any(maps for _, maps in images.values()),
        "groups": _describe_groups(models, groups, images),
        **_numbers(models),
        **_classes(models),
    }
    body = _environment(context["axis"]).get_template("page.html.jinja").render(context)
    page = html.document(
        title,
        body,
        style=(_FOLDER / "page.css").read_text(encoding="utf-8"),
        script=(_FOLDER / "page.js").read_text(encoding="utf-8"),
    )
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, page)
    return len(page.encode()), [*notes, *clip_notes]


def _data_name(about: About) -> str:
    name = about.dataset or "data"
    return name if about.label == "label" else f"{name} {about.label}"


def _numbers(models: Sequence[Model]) -> dict[str, Any]:
    """What the chapters on whole models need."""
    pairs = make_pairs(models)
    chapters = {
        "tested": "What was tested",
        "numbers": "Numbers",
        "pairs": "Two models on the same videos",
        "classes": "Classes",
        "confusion": "Confusion",
        "calibration": "Calibration",
        "mistakes": "Mistakes",
    }
    if not pairs:
        del chapters["pairs"]
    sets = models[0].scores.multilabel
    if sets:
        del chapters["confusion"], chapters["calibration"]
    lows, highs = zip(*(model.intervals["top1"] for model in models), strict=True)
    # At least 5 points, or a difference that is nothing would look like one.
    low = min(math.floor(20 * min(lows)), 19) / 20
    high = max(math.ceil(20 * max(highs)) / 20, low + 0.05)
    return {
        "models": models,
        "sets": sets,
        "by_class": ("map", "mAP") if sets else ("mean_class_accuracy", "mean-class"),
        "shared": shared_facts(models),
        "videos": len(models[0].scores),
        "chapters": list(chapters.items()),
        "axis": (low, high),
        "resamples": RESAMPLES,
        "any_paper": any(model.paper for model in models),
        "pairs": pairs,
        "all_pairs": makes_all_pairs(models),
        "most_flips": _MOST_FLIPS,
        "calibration": None if sets else calibration_chart(models),
    }


def _classes(models: Sequence[Model]) -> dict[str, Any]:
    """What the chapters on classes need."""
    rows = class_rows(models)
    occurring = [row for row in rows if row.videos and row.spread]
    bars = sorted(occurring, key=lambda row: (-row.spread, -row.videos, row.label))[:_BARS]
    return {
        "classes": models[0].scores.class_names,
        "rows": rows,
        "bars": bars,
        "confusions": [_confusion(model) for model in models if not model.scores.multilabel],
    }


def _confusion(model: Model) -> dict[str, Any]:
    matrix = confusion(model.scores)
    pairs = confused_pairs(model.scores)
    picture, cells = None, None
    if len(matrix) > _TABLE:
        alt = (
            f"Confusion matrix of {model.name}, {len(matrix)} classes; the table below has the "
            "most confused pairs"
        )
        picture = confusion_picture(matrix, alt)
        cells = confusion_cells(matrix) if np.count_nonzero(matrix) <= _MOST_CELLS else None
    return {
        "model": model,
        "matrix": matrix.tolist(),
        "picture": picture,
        "cells": cells,
        "pairs": pairs[:_MOST_PAIRS],
        "more": len(pairs) if len(pairs) > _MOST_PAIRS else 0,
    }


def _images(
    models: Sequence[Model], groups: Sequence[Group], gradcam: int, data: Path | None
) -> tuple[dict[int, tuple[Markup, list[tuple[Model, Markup]]]], list[str]]:
    """By row of the scores: the strip of a video, and one for each model's maps; and notes."""
    rows = list(dict.fromkeys(row for group in groups for row in group.rows))
    if not rows:
        return {}, []
    from aia_jax.evaluation.report.clips import make_strips  # JAX takes seconds

    strips, notes = make_strips(models, rows, rows[:gradcam], data)
    images = {}
    for row, strip in strips.items():
        video = str(models[0].scores.ids[row])
        maps = [
            (
                models[number],
                Markup(html.film_strip(pictures, f"Grad-CAM of {models[number].name} on {video}")),
            )
            for number, pictures in strip.maps.items()
        ]
        alt = f"{len(strip.pictures)} frames of {video}"
        images[row] = Markup(html.film_strip(strip.pictures, alt)), maps
    return images, notes


def _describe_groups(
    models: Sequence[Model],
    groups: Sequence[Group],
    images: Mapping[int, tuple[Markup, list[tuple[Model, Markup]]]],
) -> list[dict[str, Any]]:
    """The videos of each group; one that an earlier group has is only named."""
    seen: set[int] = set()
    described = []
    for group in groups:
        videos = []
        for row in group.rows:
            strip, maps = images.get(row, (None, []))
            videos.append(
                {
                    "row": row,
                    "id": str(models[0].scores.ids[row]),
                    "label": models[0].scores.label_text(row),
                    "first": row not in seen,
                    "answers": [_answer(model, row) for model in models],
                    "strip": strip,
                    "maps": maps,
                }
            )
            seen.add(row)
        described.append({"title": group.title, "about": group.about, "videos": videos})
    return described


def _answer(model: Model, row: int) -> dict[str, Any]:
    """What a model takes a video for; `predicted` is None if it could not evaluate it."""
    scores = model.scores
    known, predicted = bool(scores.evaluated[row]), int(model.predicted[row])
    own = scores.labels[row]
    labels = np.flatnonzero(own).tolist() if scores.multilabel else [int(own)]
    truth = ", ".join(_percent(model.probability(row, label)) for label in labels)
    return {
        "model": model,
        "predicted": scores.class_names[predicted] if known else None,
        "right": not model.wrong[row],
        "probability": model.probability(row, predicted),
        "truth": f"true class{'es' * (len(labels) > 1)} {truth}" if truth else "it has no class",
    }


def _environment(axis: tuple[float, float]) -> Environment:
    """The templates of this folder; `axis` is the range of the drawn intervals."""
    low, high = axis
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percent=_percent,
        points=lambda value: f"{100 * value:+.1f}".replace("-", "−"),
        p_value=lambda p: f"{p:.2g}" if p >= 1e-4 else "below 0.0001",
        thousands=lambda value: f"{value:,}",
        on_axis=lambda value: f"{100 * (value - low) / (high - low):.2f}%",
        length_on_axis=lambda value: f"{100 * value / (high - low):.2f}%",
    )
    return environment


def _percent(value: float | None, digits: int = 1) -> str:
    return "—" if value is None else f"{value:.{digits}%}"
