"""When a run ends early, whatever restarts it went through, and what it says at its end."""

from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies

from aia_jax.training.validations import Validations, describe_end


def after(numbers, best_by="top1", patience=2, meta=None):
    """The validations of a run that got these numbers at steps 10, 20, …"""
    validations = Validations(best_by, patience, meta or {})
    for step, number in enumerate(numbers, 1 + len(validations.rows)):
        validations.add(10 * step, {best_by: number})
    return validations


@pytest.mark.parametrize(
    ("numbers", "best_by", "ends"),
    [
        ((0.5, 0.4), "top1", False),
        ((0.5, 0.4, 0.3), "top1", True),
        ((0.5, 0.5, 0.5), "top1", True),  # an equal one is no better one
        ((0.5, 0.4, 0.6), "top1", False),
        ((0.5, 0.4, 0.3), "loss", False),
        ((0.5, 0.6, 0.7), "loss", True),
        ((0.5, float("nan"), float("nan")), "loss", True),
    ],
)
def test_a_run_ends_after_so_many_validations_without_a_better_one(numbers, best_by, ends):
    validations = after(numbers, best_by)
    assert validations.end_run(10 * len(numbers)) == ends
    assert not validations.end_run(10 * len(numbers) + 1)  # that step was not validated
    assert not after(numbers, best_by, patience=0).end_run(10 * len(numbers))


@hypothesis.given(
    strategies.lists(strategies.sampled_from((0.1, 0.2, 0.3, float("nan"))), max_size=12),
    strategies.integers(1, 4),
    strategies.data(),
)
def test_a_run_that_goes_on_from_any_checkpoint_ends_where_it_would_have(numbers, patience, data):
    whole = after(numbers, patience=patience)
    place = data.draw(strategies.integers(0, len(numbers)))
    saved = {"validations": whole.rows[:place], "position": 10 * (place + 1), "metrics": None}
    if place < len(numbers) and data.draw(strategies.booleans()):
        saved["metrics"] = {"top1": numbers[place]}  # stopped after the validation of that step
    resumed = Validations("top1", patience, saved)
    rest = numbers[len(resumed.rows) :]
    for count, number in enumerate(rest, len(resumed.rows) + 1):
        resumed.add(10 * count, {"top1": number})
    last = 10 * len(numbers)
    assert len(resumed.rows) == len(numbers)
    assert resumed.end_run(last) == whole.end_run(last)
    assert resumed.without_better == whole.without_better


def test_validations_that_lack_the_metric_do_not_count():
    meta = {"validations": after((0.5, 0.4, 0.3)).rows}
    assert not after((0.9,), "loss", meta=meta).end_run(40)
    assert after((0.9, 1.0, 1.0), "loss", meta=meta).end_run(60)


def test_the_end_names_the_best_step_and_the_command_to_type_next():
    workdir = Path("runs/a b")
    text = describe_end(after((0.25, 0.5, 0.5, 0.125)), 20, 40, 60, workdir)
    assert text.splitlines() == [
        "finished early, after step 40 of 60: the last 2 validations had no better top-1 than "
        "that of step 20; --config.train.patience=3 or more goes on",
        "the best is step 20, top-1 50.00% in validation; checkpoints in runs/a b/checkpoints, "
        "curves in runs/a b/curves.png",
        "to test it: python eval.py --workdir 'runs/a b' --step 20",
    ]
    text = describe_end(after((0.5,), "loss"), 10, 60, 60, Path("runs/a"))
    assert text.startswith("finished\nthe best is step 10, loss 0.5000 in validation;")
    text = describe_end(after((float("nan"),)), None, 60, 60, Path("runs/a"))
    assert "no step has a top-1 to be the best by" in text and "--step" not in text
