"""Metrics equal scikit-learn's, a plain loop's and the training step's."""

import math

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from aia_jax.evaluation.intervals import intervals, mean_interval
from aia_jax.evaluation.metrics import (
    calibration,
    confused_pairs,
    confusion,
    losses,
    per_class,
    ranks,
    summarize,
)
from aia_jax.evaluation.scores import Scores, ScoresError
from aia_jax.training import metrics as training_metrics
from tests.helpers.tiny_scores import make_scores

anything = given(
    videos=st.integers(1, 30),
    classes=st.integers(1, 9),
    seed=st.integers(0, 2**32),
    damaged=st.integers(0, 4),
)


def random_scores(videos: int, classes: int, seed: int, damaged: int) -> Scores:
    """Whole numbers make equal logits frequent; some classes never occur."""
    rng = np.random.default_rng(seed)
    return make_scores(
        logits=rng.integers(-3, 4, (videos, classes)),
        labels=rng.integers(0, (classes + 1) // 2, videos),
        damaged=tuple(range(min(damaged, videos - 1))),
    )


def counted(scores: Scores) -> tuple[np.ndarray, np.ndarray]:
    return scores.logits[scores.evaluated], scores.labels[scores.evaluated]


@settings(max_examples=60, deadline=None)
@anything
def test_numbers_equal_a_plain_loop(videos, classes, seed, damaged):
    scores = random_scores(videos, classes, seed, damaged)
    logits, labels = counted(scores)
    hits, loss = {1: [], 5: []}, []
    for row, label in zip(logits.astype(float), labels, strict=True):
        order = sorted(range(len(row)), key=lambda one: (-row[one], one))
        for k, found in hits.items():
            found.append(label in order[:k])
        loss.append(math.log(sum(math.exp(x) for x in row)) - row[label])
    means = [np.mean([hit for hit, y in zip(hits[1], labels, strict=True) if y == k])
             for k in sorted(set(labels.tolist()))]  # fmt: skip
    found = summarize(scores)
    assert found.top1 == pytest.approx(np.mean(hits[1]))
    assert found.top5 == pytest.approx(np.mean(hits[5]))
    assert found.mean_class_accuracy == pytest.approx(np.mean(means))
    assert found.loss == pytest.approx(np.mean(loss))
    assert (found.evaluated, found.expected) == (len(logits), len(scores))
    assert found.classes == len(set(labels.tolist()))


@settings(max_examples=20, deadline=None)
@anything
@pytest.mark.filterwarnings("ignore")
def test_numbers_equal_scikit_learn(videos, classes, seed, damaged):
    scores = random_scores(videos, classes, seed, damaged)
    logits, labels = counted(scores)
    predicted, every = logits.argmax(1), np.arange(len(scores.class_names))
    found = summarize(scores)
    assert found.top1 == pytest.approx(sklearn.metrics.accuracy_score(labels, predicted))
    assert found.mean_class_accuracy == pytest.approx(
        sklearn.metrics.balanced_accuracy_score(labels, predicted)
    )
    exponents = np.exp(logits.astype(float))
    probabilities = exponents / exponents.sum(1, keepdims=True)
    if len(every) > 1:
        expected = sklearn.metrics.log_loss(labels, probabilities, labels=every)
        assert found.loss == pytest.approx(expected)
    matrix = confusion(scores)
    np.testing.assert_array_equal(
        matrix, sklearn.metrics.confusion_matrix(labels, predicted, labels=every)
    )
    for one in per_class(scores):
        own = labels == one.label
        assert one.videos == own.sum() == matrix[one.label].sum()
        assert (one.top1 is None) == (one.f1 is None) == (not own.any())
        assert (one.precision is None) == (not (predicted == one.label).any())
        if own.any():
            f1 = sklearn.metrics.f1_score(labels == one.label, predicted == one.label)
            assert one.top1 == pytest.approx((predicted[own] == one.label).mean())
            assert one.f1 == pytest.approx(f1)
        if one.precision is not None:
            assert one.precision == pytest.approx(own[predicted == one.label].mean())


def test_top_k_treats_equal_logits_as_the_training_step_does():
    scores = random_scores(500, 9, seed=0, damaged=0)
    for k in (1, 5):
        expected = training_metrics.topk_correct(scores.logits, scores.labels.astype(np.int32), k)
        np.testing.assert_array_equal(ranks(scores.logits, scores.labels) < k, expected > 0)


def test_top5_without_ties_equals_scikit_learn():
    scores = make_scores(200, 12)
    expected = sklearn.metrics.top_k_accuracy_score(
        scores.labels, scores.logits, k=5, labels=np.arange(12)
    )
    assert summarize(scores).top5 == pytest.approx(expected)


def test_with_five_classes_or_fewer_top5_is_certain():
    assert summarize(make_scores(classes=4)).top5 == 1
    assert summarize(make_scores(classes=1)).top1 == 1


def test_loss_of_extreme_logits_is_finite():
    logits, labels = np.array([[0.0, 3e4, -3e4]], np.float32), np.array([2])
    assert losses(logits, labels)[0] == 6e4


def test_damaged_videos_do_not_count():
    scores = make_scores(damaged=(0, 5, 7))
    alone = summarize(scores.rows(scores.evaluated))
    assert summarize(scores).top1 == alone.top1
    assert summarize(scores).ece == alone.ece
    assert intervals(scores) == intervals(scores.rows(scores.evaluated))
    with pytest.raises(ScoresError, match="none of the 3 videos was evaluated"):
        summarize(make_scores(3, damaged=(0, 1, 2)))


def test_confused_pairs_come_most_frequent_first():
    labels = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2])
    predicted = [1, 1, 0, 2, 2, 2, 2, 0, 1]
    pairs = confused_pairs(make_scores(logits=np.eye(3)[predicted], labels=labels))
    found = [(pair.label, pair.predicted, pair.videos) for pair in pairs]
    assert found == [(1, 2, 2), (0, 1, 2), (2, 0, 1), (2, 1, 1)]
    assert pairs[0].share == 1 and pairs[3].share == 0.25
    assert confused_pairs(make_scores(logits=np.eye(3)[predicted], labels=labels), 2) == pairs[:2]
    assert not confused_pairs(make_scores(logits=np.eye(3), labels=np.arange(3)))


def test_calibration_equals_a_plain_loop():
    scores = make_scores(300, 4, seed=3)
    probabilities = np.exp(scores.logits.astype(float))
    probabilities /= probabilities.sum(1, keepdims=True)
    confidence, right = probabilities.max(1), probabilities.argmax(1) == scores.labels
    gap = 0.0
    found = calibration(scores, bins=10)
    for number in range(10):
        inside = (confidence > number / 10) & (confidence <= (number + 1) / 10)
        assert found.videos[number] == inside.sum()
        if inside.any():
            gap += inside.mean() * abs(confidence[inside].mean() - right[inside].mean())
            assert found.accuracy[number] == pytest.approx(right[inside].mean())
        else:
            assert np.isnan(found.accuracy[number])
    assert found.ece == pytest.approx(gap)


def test_a_certain_network_is_calibrated_if_it_is_right():
    labels = np.arange(4)
    assert calibration(make_scores(logits=1e3 * np.eye(4), labels=labels)).ece == 0
    assert calibration(make_scores(logits=1e3 * np.eye(4), labels=labels[::-1])).ece == 1


def test_intervals_are_those_of_a_binomial():
    """Top-1's bootstrap is binomial, so its percentiles are known."""
    scores = make_scores(400, 6)
    found = intervals(scores, resamples=4000)
    top1 = summarize(scores).top1
    expected = binom.ppf([0.025, 0.975], 400, top1) / 400
    np.testing.assert_allclose(found["top1"], expected, atol=0.006)


def test_intervals_equal_a_plain_bootstrap():
    scores = make_scores(60, 8, seed=4)
    rng, numbers = np.random.default_rng(1), []
    for _ in range(1500):
        rows = rng.integers(0, 60, 60)
        logits, labels = scores.logits[rows], scores.labels[rows]
        right = logits.argmax(1) == labels
        mean_class = np.mean([right[labels == label].mean() for label in np.unique(labels)])
        numbers.append([right.mean(), mean_class, losses(logits, labels).mean()])
    expected = np.percentile(numbers, [2.5, 97.5], axis=0)
    found = intervals(scores, resamples=1500)
    for column, name in enumerate(("top1", "mean_class_accuracy", "loss")):
        np.testing.assert_allclose(found[name], expected[:, column], atol=0.035)


def test_a_class_that_a_resample_lacks_is_left_out_of_its_mean():
    labels = np.array([0] * 9 + [1])
    found = intervals(make_scores(logits=np.eye(2)[labels], labels=labels))
    assert found["mean_class_accuracy"] == (1, 1)


def test_intervals_depend_on_the_seed_alone():
    scores = make_scores(50)
    assert intervals(scores, 100) == intervals(scores, 100)
    assert intervals(scores, 100) != intervals(scores, 100, seed=1)
    narrow, wide = intervals(scores, 500, level=0.5)["loss"], intervals(scores, 500)["loss"]
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_a_single_video_has_intervals_without_width():
    found = intervals(make_scores(1))
    assert all(low == high for low, high in found.values())
    assert mean_interval(np.array([2.0])) == (2.0, 2.0)
