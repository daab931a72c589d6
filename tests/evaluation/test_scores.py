"""Scores are checked when they are made; views are averaged by either rule."""

import dataclasses

import numpy as np
import pytest

from aia_jax.evaluation.scores import Ensemble, Scores, ScoresError, average_views, identity
from tests.helpers.tiny_scores import make_evaluation, make_scores

NAN, INFINITY = float("nan"), float("inf")


def replaced(**fields) -> Scores:
    return dataclasses.replace(make_scores(4, 3), **fields)


def with_logit(value: float) -> np.ndarray:
    logits = np.zeros((4, 3), np.float32)
    logits[2, 1] = value
    return logits


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"logits": np.zeros((4, 3))}, ["logits", "float64 [4, 3]", "float32 [4, 3]"]),
        ({"logits": np.zeros((4, 2), np.float32)}, ["logits", "[4, 2]", "[4, 3]"]),
        ({"logits": np.zeros((3, 3), np.float32)}, ["logits", "[3, 3]", "[4, 3]"]),
        ({"logits": with_logit(NAN)}, ["logits", "video002", "1 of 4"]),
        ({"logits": with_logit(-INFINITY)}, ["logits", "video002", "1 of 4"]),
        ({"labels": np.zeros(4, np.int32)}, ["labels", "int32", "int64"]),
        ({"labels": np.array([0, 1, 3, 0])}, ["labels", "video002", "has 3", "0 to 2"]),
        ({"labels": np.array([0, -1, 2, 0])}, ["labels", "video001", "has -1"]),
        ({"ids": np.array(["a", "b", "a", "c"])}, ["ids", "'a'", "twice"]),
        ({"ids": np.arange(4)}, ["ids", "int64", "text"]),
        ({"ids": np.array("a")}, ["ids", "[]"]),
        ({"class_names": ("x", "y", "x")}, ["class_names", "'x'", "twice"]),
        ({"class_names": ("x", "y")}, ["logits", "[4, 3]", "[4, 2]"]),
        ({"evaluated": np.ones(4, np.int64)}, ["evaluated", "int64", "bool"]),
        ({"view_logits": np.zeros((4, 2, 3), np.float32)}, ["view_logits", "[4, 1, 3]"]),
    ],
)
def test_wrong_scores_are_refused_by_the_name_of_the_array(fields, words):
    with pytest.raises(ScoresError) as refusal:
        replaced(**fields)
    line = str(refusal.value)
    assert "\n" not in line
    assert all(word in line for word in words), line


def test_a_test_and_an_ensemble_refuse_what_cannot_be():
    with pytest.raises(ScoresError, match="averaging is 'sum'"):
        make_evaluation(averaging="sum")
    with pytest.raises(ScoresError, match="clips is 0"):
        make_evaluation(clips=0)
    with pytest.raises(ScoresError, match="2 weights"):
        Ensemble("logits", (1.0, 2.0), (make_evaluation(),))


def test_views_are_averaged_before_or_after_softmax():
    views = np.random.default_rng(0).normal(size=(5, 6, 4)).astype(np.float32)
    np.testing.assert_allclose(average_views(views, "logits"), views.mean(1), rtol=1e-6)
    exponents = np.exp(views.astype(np.float64))
    mean = (exponents / exponents.sum(-1, keepdims=True)).mean(1)
    np.testing.assert_allclose(np.exp(average_views(views, "probabilities")), mean, rtol=1e-5)


def test_probabilities_too_small_for_a_float_stay_finite():
    views = np.array([[[0.0, 2000.0], [0.0, 3000.0]]], np.float32)
    assert np.isfinite(average_views(views, "probabilities")).all()


@pytest.mark.parametrize(
    "other",
    [
        {"frames": 16},
        {"crops": 3},
        {"crop_size": 256},
        {"resize": "short256"},
        {"sampling": "uniform"},
        {"averaging": "probabilities"},
        {"split": "train"},
        {"label": "verb"},
        {"weights": "a2"},
        {"data": "d2"},
        {"model": {"name": "resnet", "depth": 101}},
    ],
)
def test_what_decides_the_logits_decides_the_identity(other):
    usual = identity(make_evaluation(), ("a", "b"))
    assert identity(make_evaluation(**other), ("a", "b")) != usual


def test_what_only_describes_a_test_does_not_change_its_identity():
    usual = identity(make_evaluation(), ("a", "b"))
    assert identity(make_evaluation(step=7, config="x", paper="y"), ("a", "b")) == usual
    assert identity(make_evaluation(), ("b", "a")) != usual
    tuples, lists = ({"stage_sizes": kind([1, 1])} for kind in (tuple, list))
    names = ("a", "b")
    assert identity(make_evaluation(model=tuples), names) == identity(
        make_evaluation(model=lists), names
    )


def test_an_ensemble_names_its_frames_as_the_paper_does():
    members = tuple(make_evaluation(frames=frames, crops=3, clips=2) for frames in (16, 8, 12))
    assert Ensemble("logits", (1.0,) * 3, members).protocol == "(8+12+16)×3×2"
    mixed = (make_evaluation(frames=16, crops=3), make_evaluation())
    assert Ensemble("logits", (1.0, 1.0), mixed).protocol == "16×3×1+8×1×1"
