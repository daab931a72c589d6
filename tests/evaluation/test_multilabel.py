"""Several labels a video: average precision, ranks, losses, and everything that scores give."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from aia_jax.errors import UserError
from aia_jax.evaluation.__main__ import main
from aia_jax.evaluation.actions import combine
from aia_jax.evaluation.align import align
from aia_jax.evaluation.compare import compare
from aia_jax.evaluation.ensembles import join
from aia_jax.evaluation.intervals import intervals, map_difference_interval
from aia_jax.evaluation.metrics import calibration, confusion, per_class, per_label, summarize
from aia_jax.evaluation.multilabel import (
    PrecisionRecall,
    average_precision,
    best_ranks,
    mean_average_precision,
    sigmoid_losses,
)
from aia_jax.evaluation.report.page import write_report
from aia_jax.evaluation.score_files import read_scores, write_scores
from aia_jax.evaluation.scores import ScoresError, average_views
from aia_jax.evaluation.tables import make_table, to_markdown
from tests.helpers.tiny_scores import make_scores, make_set_scores


@given(st.integers(0, 10_000))
def test_average_precision_is_scikit_learns_with_equal_logits_and_draws(seed):
    rng = np.random.default_rng(seed)
    shape = rng.integers(1, 30), rng.integers(1, 5)
    logits = rng.integers(-2, 3, shape).astype(np.float32)  # many are equal
    labels = rng.random(shape) < 0.3
    draws = rng.integers(0, 3, len(logits))
    for counts in (None, draws):
        times = np.ones(len(logits), int) if counts is None else counts
        found = PrecisionRecall(logits, labels).average_precision(counts)
        for column, value in enumerate(found):
            truth = np.repeat(labels[:, column], times)
            if not truth.any():
                assert np.isnan(value)
                continue
            expected = average_precision_score(truth, np.repeat(logits[:, column], times))
            assert value == pytest.approx(expected, abs=1e-12)


def test_classes_without_videos_do_not_count_in_the_mean():
    logits = np.array([[2.0, 0.0, 1.0], [1.0, 3.0, 0.0]], np.float32)
    labels = np.array([[True, False, False], [False, False, False]])
    assert average_precision(logits, labels)[0] == 1
    assert mean_average_precision(logits, labels) == 1
    assert np.isnan(mean_average_precision(logits, np.zeros_like(labels)))


def test_the_foremost_label_of_a_video_counts():
    logits = np.array([[3, 2, 2, 0], [3, 2, 2, 0], [3, 2, 2, 0]], np.float32)
    labels = np.array([[0, 0, 1, 1], [1, 0, 0, 1], [0, 0, 0, 0]], bool)
    ranks = best_ranks(logits, labels).tolist()
    assert ranks[:2] == [2, 0]  # of equal logits the lower is ahead
    assert ranks[2] > 1000  # a video without a class is right for no k, also above K


def test_losses_are_torchs_binary_cross_entropy():
    scores = make_set_scores()
    expected = torch.nn.functional.binary_cross_entropy_with_logits(
        torch.tensor(scores.logits).double(), torch.tensor(scores.labels).double(), reduction="none"
    ).mean(1)
    np.testing.assert_allclose(sigmoid_losses(scores.logits, scores.labels), expected, rtol=1e-12)


def test_probabilities_of_views_are_averaged_as_sigmoids():
    views = np.random.default_rng(0).normal(scale=30, size=(5, 3, 4)).astype(np.float32)
    logits = average_views(views, "probabilities", multilabel=True)
    p = 1 / (1 + np.exp(-views.astype(np.float64)))
    np.testing.assert_allclose(1 / (1 + np.exp(-logits)), p.mean(1), rtol=1e-5)
    # Where the probability is 1 in float64, its logit is still finite.
    assert np.isfinite(average_views(views + 100, "probabilities", multilabel=True)).all()
    np.testing.assert_array_equal(
        average_views(views, "logits", multilabel=True), average_views(views, "logits")
    )


def test_a_summary_has_map_and_no_number_that_means_nothing():
    scores = make_set_scores(damaged=(3, 7))
    counted = scores.only_evaluated()
    numbers = summarize(scores).numbers()
    assert set(numbers) == {"top1", "top5", "map", "loss", "evaluated", "expected", "classes"}
    occur = counted.labels.any(0)
    expected = average_precision_score(counted.labels[:, occur], counted.logits[:, occur])
    assert numbers["map"] == pytest.approx(expected)
    hits = counted.labels[np.arange(len(counted)), counted.logits.argmax(1)]
    assert numbers["top1"] == pytest.approx(hits.mean())
    assert numbers["evaluated"] == len(scores) - 2
    assert "map" not in summarize(make_scores()).numbers()
    for compute in (confusion, calibration, per_class):
        with pytest.raises(ScoresError, match="no meaning for videos with several labels"):
            compute(scores)


def test_numbers_of_classes_are_at_a_probability_of_one_half():
    logits = np.array([[1, -1], [1, 1], [-1, -1]], np.float32)
    labels = np.array([[1, 0], [0, 0], [1, 0]], bool)
    first, second = per_label(make_set_scores(logits=logits, labels=labels))
    assert (first.videos, first.precision, first.recall) == (2, 0.5, 0.5)
    assert (second.videos, second.ap, second.precision, second.recall) == (0, None, 0, None)


def test_the_interval_of_map_is_that_of_a_plain_bootstrap():
    scores = make_set_scores(videos=12, classes=3)
    low, high = intervals(scores, resamples=100)["map"]
    rng, found = np.random.default_rng(5), []
    for _ in range(400):
        rows = rng.integers(0, 12, 12)
        found.append(mean_average_precision(scores.logits[rows], scores.labels[rows]))
    assert low < summarize(scores).map < high
    np.testing.assert_allclose([low, high], np.percentile(found, [2.5, 97.5]), atol=0.08)


def test_intervals_of_map_stay_between_0_and_1():
    """Draws raise an average precision, and few videos more than many."""
    good = make_set_scores(videos=4, classes=3)
    good = dataclasses.replace(good, logits=np.where(good.labels, 2, -2).astype(np.float32))
    bad = dataclasses.replace(good, logits=-good.logits)
    for seed in range(4):
        for scores in (good, bad, make_set_scores(videos=4, classes=3, seed=seed)):
            low, high = intervals(scores, resamples=50, seed=seed)["map"]
            assert 0 <= low <= high <= 1
        low, high = map_difference_interval(bad, good, resamples=50, seed=seed)
        assert -1 <= low <= high <= 1


def test_score_files_keep_sets(tmp_path):
    scores = make_set_scores()
    write_scores(tmp_path / "a.npz", scores)
    found = read_scores(tmp_path / "a.npz")
    assert found.multilabel
    np.testing.assert_array_equal(found.labels, scores.labels)
    assert found.label_text(0) == ", ".join(f"Class {c}" for c in np.flatnonzero(scores.labels[0]))
    with pytest.raises(ScoresError, match=r"labels: found bool \[20, 5\], expected bool \[20, 6\]"):
        dataclasses.replace(scores, labels=scores.labels[:, :5])


def test_models_are_aligned_by_the_names_of_classes_and_videos():
    first = make_set_scores(seed=1)
    order, rows = np.array([3, 0, 5, 1, 4, 2]), np.arange(20)[::-1]
    other = dataclasses.replace(
        first,
        labels=first.labels[:, order],
        logits=first.logits[:, order],
        class_names=tuple(first.class_names[c] for c in order),
    ).rows(rows)
    aligned = align({"a": first, "b": other}).scores[1]
    np.testing.assert_array_equal(aligned.labels, first.labels)
    np.testing.assert_array_equal(aligned.logits, first.logits)
    changed = first.labels.copy()
    changed[4] = ~changed[4]
    with pytest.raises(UserError, match="disagree on the class of 1 of 20 videos: video004"):
        align({"a": first, "b": dataclasses.replace(first, labels=changed)})
    changed[4] = False  # as a damaged record has it
    evaluated = np.arange(20) != 4
    damaged = dataclasses.replace(first, labels=changed, evaluated=evaluated)
    assert align({"a": first, "b": damaged}).evaluated.sum() == 19
    with pytest.raises(UserError, match="b has several labels a video, a has one"):
        align({"a": make_scores(), "b": first})


def test_two_models_differ_in_map_and_in_hits():
    good = make_set_scores(seed=1)
    good = dataclasses.replace(good, logits=np.where(good.labels, 2, -2).astype(np.float32))
    found = compare({"bad": make_set_scores(seed=2), "good": good})
    assert found.map[1] == 1 and found.top1[1] == 0.95  # one video has no class
    assert found.map_interval[0] > 0
    assert all(one.second == 1 for one in found.classes)
    assert found.gained and ", " in " ".join(flip.label for flip in found.gained)


def test_ensembles_average_logits_or_sigmoids():
    first, second = make_set_scores(seed=1), make_set_scores(seed=2)
    files = {"a": first, "b": second}
    logits = join(files)[0].logits
    np.testing.assert_allclose(logits, (first.logits + second.logits) / 2, rtol=1e-6)
    joined = join(files, [1.0, 3.0], "probabilities")[0]
    expected = 0.25 * first.probabilities() + 0.75 * second.probabilities()
    np.testing.assert_allclose(joined.probabilities(), expected, rtol=1e-5)
    assert joined.multilabel
    with pytest.raises(UserError, match="h2cn has no meaning for several labels"):
        join(files, rule="h2cn")


def test_actions_need_one_verb_and_one_noun():
    files = {"v": make_set_scores(label="verb"), "n": make_set_scores(label="noun")}
    with pytest.raises(UserError, match="v has several labels a video, and an action is one verb"):
        combine(files)


def test_tables_have_a_column_for_map():
    for form in ("I", "II"):
        text = to_markdown(make_table({"a": make_set_scores(), "b": make_scores(seed=3)}, form))
        assert "mAP" in text and f"{100 * summarize(make_set_scores()).map:.1f}" in text
        assert "mAP" not in to_markdown(make_table({"b": make_scores()}, form))


def test_the_report_leaves_out_what_has_no_meaning(tmp_path):
    path = tmp_path / "report.html"
    write_report({"a": make_set_scores(seed=1), "b": make_set_scores(seed=2)}, path, strips=0)
    page = path.read_text()
    assert "mAP" in page and 'id="confusion"' not in page and 'id="calibration"' not in page
    unlabelled = [make_set_scores(seed=s, labels=np.zeros((20, 6), bool)) for s in (1, 2)]
    write_report(dict(zip("ab", unlabelled, strict=True)), path, strips=0)
    assert "<td>–</td>" in path.read_text()
    assert "Average precision of the classes" in page and "difference of mAP, points" in page


def test_the_commands_print_map(tmp_path, capsys):
    for name, seed in (("a", 1), ("b", 2)):
        write_scores(tmp_path / f"{name}.npz", make_set_scores(seed=seed))
    a, b = str(tmp_path / "a.npz"), str(tmp_path / "b.npz")
    main(["metrics", a, "--resamples", "20"])
    assert "mAP" in (text := capsys.readouterr().out) and "Weakest classes" in text
    main(["metrics", a, "--resamples", "20", "--json"])
    content = json.loads(capsys.readouterr().out)
    assert content["map"] == summarize(make_set_scores(seed=1)).map
    assert len(content["per_class"]) == 6 and "confused_pairs" not in content
    main(["compare", a, b])
    assert "B − A of mAP" in capsys.readouterr().out
    main(["ensemble", a, b])
    assert "mAP" in capsys.readouterr().out
