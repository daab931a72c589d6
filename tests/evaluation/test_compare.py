"""Two models are compared on the same videos, however their files are sorted."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from aia_jax.errors import UserError
from aia_jax.evaluation.compare import compare, mcnemar
from tests.helpers.tiny_scores import make_scores

ONE_HOT = 9 * np.eye(3)


def make_pair(damaged=()):
    labels = np.array([0, 0, 1, 1, 2, 2])
    first = make_scores(logits=ONE_HOT[[0, 1, 1, 0, 2, 2]], labels=labels)
    second = make_scores(logits=ONE_HOT[[0, 0, 1, 1, 0, 0]], labels=labels, damaged=damaged)
    return {"A.npz": first, "B.npz": second}


def test_flips_are_counted_and_named():
    found = compare(make_pair())
    assert (found.both, found.only_first, found.only_second, found.neither) == (2, 2, 2, 0)
    assert [flip.video for flip in found.lost] == ["video004", "video005"]
    assert [flip.video for flip in found.gained] == ["video001", "video003"]
    assert found.lost[0] == ("video004", "Class 2", "Class 2", "Class 0")
    assert found.top1 == (4 / 6, 4 / 6) and found.p_exact == 1
    assert [(one.name, one.difference) for one in found.classes] == [
        ("Class 2", -1.0),
        ("Class 0", 0.5),
        ("Class 1", 0.5),
    ]


def test_videos_that_one_model_lacks_do_not_count():
    found = compare(make_pair(damaged=(4,)))
    assert found.videos == 5 and found.only_first == 1
    assert found.notes == ("B.npz lacks the scores of 1 of its videos: they do not count",)
    files = make_pair(damaged=(0, 1, 2, 3, 4, 5))
    with pytest.raises(UserError, match="no video that both could evaluate"):
        compare(files)


def test_what_stands_for_the_label_of_a_damaged_record_is_no_label():
    files = make_pair(damaged=(4,))
    labels = files["B.npz"].labels.copy()
    labels[4] = 0
    files["B.npz"] = dataclasses.replace(files["B.npz"], labels=labels)
    assert compare(files).videos == 5
    labels[5] = 0
    with pytest.raises(UserError, match="disagree on the class of 1 of 6 videos: video005"):
        compare(files)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_the_order_of_videos_and_classes_does_not_matter(seed):
    rng = np.random.default_rng(seed)
    files = {"A.npz": make_scores(30, 5, seed=1), "B.npz": make_scores(30, 5, seed=2)}
    expected = compare(files)
    columns, second = rng.permutation(5), files["B.npz"]
    shuffled = dataclasses.replace(
        second,
        class_names=tuple(second.class_names[column] for column in columns),
        labels=np.argsort(columns)[second.labels],
        logits=second.logits[:, columns],
    ).rows(rng.permutation(30))
    assert compare({**files, "B.npz": shuffled}) == expected


@pytest.mark.parametrize(("fewer", "more"), [(0, 0), (0, 1), (3, 3), (2, 11), (40, 71)])
def test_mcnemar_equals_the_sign_test(fewer, more):
    exact, mid = mcnemar(fewer, more)
    assert (exact, mid) == mcnemar(more, fewer)
    if fewer + more:
        assert exact == pytest.approx(binomtest(fewer, fewer + more).pvalue)
    assert 0 < mid <= exact <= 1


def test_mid_p_equals_a_published_one():
    """Fagerland, Lydersen and Laake 2013, Table 1: 1 and 7 discordant pairs."""
    exact, mid = mcnemar(1, 7)
    assert exact == pytest.approx(0.0703, abs=5e-5)
    assert mid == pytest.approx(0.0391, abs=5e-5)


def test_the_interval_holds_the_difference():
    files = {"A.npz": make_scores(400, 5, seed=1), "B.npz": make_scores(400, 5, seed=2)}
    found = compare(files)
    assert found.interval[0] < found.top1[1] - found.top1[0] < found.interval[1]
    same = compare({"A.npz": files["A.npz"], "B.npz": files["A.npz"]})
    assert same.interval == (0, 0) and not same.lost and same.p_mid == 1
