"""The test that the publisher of converted weights made, and the accuracy that they report."""

import argparse
from collections.abc import Mapping
from typing import Any

from aia_jax.checkpoints.trained_run import TrainedRun
from aia_jax.errors import UserError
from aia_jax.evaluation.paper_tables import find_paper_number
from aia_jax.evaluation.scores import Evaluation
from aia_jax.frame_geometry import resize_text
from aia_jax.shards.dataset_info import DatasetInfo
from aia_jax.weights.open import name_classes
from aia_jax.weights.source_cards import AIA, PublishedTest, SourceCard

PROTOCOL = "published"  # the value of eval.py's --protocol


def follow_protocol(options: argparse.Namespace, card: SourceCard | None) -> None:
    """Sets the options of eval.py to the first test on a card.

    Args:
        options: of the command line; `views`, `crop`, `average` and `overrides` are set.
        card: of the folder of weights; None where it has none, or where a run is tested.

    Raises:
        UserError: there is no published protocol, or an option of the command line says otherwise.
    """
    if options.protocol != PROTOCOL:
        raise UserError(
            f"--protocol {options.protocol}: the only one is {PROTOCOL}, that of the publisher of "
            "--weights; --views, --crop and --average choose any other"
        )
    if not options.weights:
        raise UserError(
            "--protocol published is the test of who published weights (--weights DIR): a run of "
            "this project has no other protocol than its recipe's; --views, --crop and --average "
            "choose one"
        )
    if card is None:
        raise UserError(
            f"--protocol published: {options.weights} does not say where its weights come from; "
            "convert them again with --source NAME (convert_torch_weights.py --help has the names)"
        )
    test = card.tests[0]
    fields = {
        "data.num_frames": str(test.num_frames),
        "data.resize": _field_text(card),
        "data.sampling": card.sampling,
    }
    set_there = {override.partition("=")[0] for override in options.overrides}
    given = [f"--{name}" for name in ("views", "crop", "average") if getattr(options, name)]
    given += [f"--config.{key}" for key in (*fields, "data.crop") if key in set_there]
    if given:
        raise UserError(
            f"--protocol published sets {', '.join(given)} itself ({describe_protocol(card)}); "
            "leave one of them out"
        )
    options.views, options.crop, options.average = str(test.views), str(test.crop), test.averaging
    options.overrides += [f"{key}={value}" for key, value in fields.items()]


def describe_protocol(card: SourceCard, test: PublishedTest | None = None) -> str:
    """A test on a card in words, by default the first."""
    test = test or card.tests[0]
    return (
        f"{test.num_frames} segments, {test.views} views of {test.crop} pixels in frames of "
        f"{resize_text(card.resize)}, mean of {test.averaging}"
    )


def name_in_sources_order(
    run: TrainedRun, card: SourceCard | None, info: DatasetInfo
) -> tuple[TrainedRun, list[str]]:
    """Names the classes of weights whose source counts through the sorted names of the classes.

    Args:
        run: the weights; returned as they are where they have names, or the card says nothing.
        card: of their source.
        info: the data, which have the same classes in any order.

    Returns:
        The run, and notes for the user.
    """
    if card is None or not card.sorted_classes or run.names_known:
        return run, []
    if info.name != card.dataset or len(info.class_names) != len(run.class_names):
        return run, []
    named = name_classes(run, sorted(info.class_names), str(info.dir))
    return named, [f"the classes of {run.workdir} are the sorted names, as {card.publisher} count"]


def find_published(card: SourceCard | None, about: Evaluation) -> dict[str, Any] | None:
    """What the publisher reports for this very test; None where there is no such number.

    Args:
        card: of the weights' source; None where it is not known.
        about: the test. Data set, split, frames, views, crop, resize, rule of sampling and
            averaging must be the publisher's.

    Returns:
        "top1" and "top5" (fractions; "top5" may be None), "by", "source", and "note": how their
        test differs in what cannot be set here.
    """
    test = _same_test(card, about)
    if card is None or test is None:
        return None
    numbers, where = (test.top1, test.top5), ""
    if card.publisher == AIA and (number := find_paper_number(about)):
        numbers, where = (number.top1, number.top5), f" (Table {number.table})"
    if numbers[0] is None:
        return None
    top1, top5 = (None if number is None else round(number / 100, 6) for number in numbers)
    by = f"{card.publisher}{where}"
    return {"top1": top1, "top5": top5, "by": by, "source": card.name, "note": card.note}


def published_notes(
    card: SourceCard, about: Evaluation, published: Mapping[str, Any] | None
) -> list[str]:
    """Why no published number stands beside a test by the published protocol, and what differs.

    Args:
        card: of the weights' source.
        about: the test.
        published: from `find_published`.
    """
    if published is not None:
        return [card.note] if card.note else []
    asked = (card.dataset, card.split)
    if asked != (about.dataset, about.split) or about.label != "label":
        label = "" if about.label == "label" else f", label {about.label}"
        return [
            f"{card.publisher} report a number for {' '.join(asked)}, these data are "
            f"{about.dataset} {about.split}{label}: it does not stand beside this result"
        ]
    return [f"the number of {card.publisher} for this test is not known here"]


def published_text(published: Mapping[str, Any] | None) -> str:
    """The published number as eval.py prints it after its own; "" where there is none."""
    if published is None:
        return ""
    top5 = f", top-5 {published['top5'] * 100:.4g}%" if published["top5"] is not None else ""
    return (
        f"; {published['by']} report top-1 {published['top1'] * 100:.4g}%{top5} for this protocol "
        "(their number, not measured here)"
    )


def _same_test(card: SourceCard | None, about: Evaluation) -> PublishedTest | None:
    """The test of a card that a test is; None where it is none of them."""
    if card is None or about.step is not None:
        return None
    place = (card.dataset, card.split, "label", card.sampling, resize_text(card.resize))
    if place != (about.dataset, about.split, about.label, about.sampling, about.resize):
        return None
    made = (about.clips, about.crops, about.crop_size, about.frames, about.averaging)
    for test in card.tests:
        views = test.views
        if made == (views.clips, views.crops, test.crop, test.num_frames, test.averaging):
            return test
    return None


def _field_text(card: SourceCard) -> str:
    """`data.resize` as an override has it."""
    return card.resize if isinstance(card.resize, str) else ",".join(map(str, card.resize))
