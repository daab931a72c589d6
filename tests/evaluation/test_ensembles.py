"""Ensembles: the rules, the match by names, and what is refused."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aia_jax.errors import UserError
from aia_jax.evaluation.ensembles import RULES, join
from aia_jax.evaluation.metrics import summarize
from aia_jax.evaluation.scores import Ensemble
from tests.helpers.tiny_scores import make_scores


def members(**fields):
    return {f"{n}.npz": make_scores(seed=n, frames=4 * n, **fields) for n in (2, 3, 4)}


def probabilities(logits: np.ndarray) -> np.ndarray:
    exponents = np.exp(logits.astype(np.float64))
    return exponents / exponents.sum(1, keepdims=True)


def test_the_rules_are_what_they_say():
    files, weights = members(), [1.0, 2.0, 0.5]
    all_logits = [scores.logits for scores in files.values()]
    total = sum(weights)

    def weighted(values):
        return sum(weight * value for weight, value in zip(weights, values, strict=True))

    found = {rule: join(files, weights, rule)[0].logits for rule in RULES}
    np.testing.assert_allclose(found["logits"], weighted(all_logits) / total, atol=1e-6)
    np.testing.assert_allclose(
        np.exp(found["probabilities"]),
        weighted(map(probabilities, all_logits)) / total,
        rtol=1e-5,
    )
    np.testing.assert_allclose(
        found["h2cn"], weighted(np.maximum(one, 0) for one in all_logits), atol=1e-6
    )


def test_an_ensemble_says_what_it_is_of():
    joined, notes = join(members(), [1.0, 1.0, 2.0])
    assert isinstance(joined.about, Ensemble) and not notes
    assert joined.about.weights == (1, 1, 2) and joined.about.protocol == "(8+12+16)×1×1"
    assert [test.frames for test in joined.about.tests] == [8, 12, 16]


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32), rule=st.sampled_from(list(RULES)))
def test_an_ensemble_commutes_with_the_order_of_videos_and_classes(seed, rule):
    rng, files = np.random.default_rng(seed), members(damaged=(3,))
    expected, _ = join(files, rule=rule)
    shuffled = {}
    for name, scores in files.items():
        columns = rng.permutation(6)
        shuffled[name] = dataclasses.replace(
            scores,
            class_names=tuple(scores.class_names[column] for column in columns),
            labels=np.argsort(columns)[scores.labels],
            logits=scores.logits[:, columns],
        ).rows(rng.permutation(20))
    found, _ = join(shuffled, rule=rule)
    assert set(found.class_names) == set(expected.class_names)
    order = [found.class_names.index(name) for name in expected.class_names]
    rows = [found.row_of[video] for video in expected.ids.tolist()]
    np.testing.assert_array_equal(found.logits[rows][:, order], expected.logits)
    np.testing.assert_array_equal(found.evaluated[rows], expected.evaluated)
    names = [found.class_names[label] for label in found.labels[rows]]
    assert names == [expected.class_names[label] for label in expected.labels]


@settings(max_examples=10, deadline=None)
@given(order=st.permutations([0, 1, 2]), rule=st.sampled_from(list(RULES)))
def test_an_ensemble_commutes_with_the_order_of_its_members(order, rule):
    files, weights = list(members().items()), [1.0, 2.0, 4.0]
    expected, _ = join(dict(files), weights, rule)
    found, _ = join(dict(files[one] for one in order), [weights[one] for one in order], rule)
    np.testing.assert_allclose(found.logits, expected.logits, atol=1e-6)


def test_a_video_counts_where_all_members_could_evaluate_it():
    files = members()
    files["3.npz"] = make_scores(seed=3, damaged=(1, 4))
    joined, notes = join(files)
    assert np.flatnonzero(~joined.evaluated).tolist() == [1, 4]
    assert summarize(joined).evaluated == 18 and summarize(joined).expected == 20
    assert notes == ("3.npz lacks the scores of 2 of its videos: they do not count",)


def test_other_videos_are_named_or_left_out_on_request():
    files = {
        "A.npz": make_scores(20, seed=1),
        "B.npz": make_scores(20, seed=2).rows(np.arange(3, 20)),
    }
    with pytest.raises(UserError) as refused:
        join(files)
    line = str(refused.value)
    assert "B.npz has other videos than A.npz: 3 videos only in A.npz ('video000'," in line
    assert "--common-videos" in line
    joined, notes = join(files, common=True)
    assert len(joined) == 17
    assert notes == ("17 videos are in all files and count: A.npz has 20, B.npz has 17",)
    files["B.npz"] = dataclasses.replace(
        make_scores(20), ids=np.array([f"other{number}" for number in range(20)])
    )
    with pytest.raises(UserError, match="no video in common"):
        join(files, common=True)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("Class 0", "Class 1"), "other classes than A.npz (2 and 3): 1 classes only in A.npz"),
        (("Class 0", "Class 1", "Other"), "1 classes only in B.npz ('Other')"),
    ],
)
def test_other_classes_are_named(names, words):
    second = make_scores(20, len(names), seed=2, labels=np.zeros(20))
    files = {"A.npz": make_scores(20, 3), "B.npz": dataclasses.replace(second, class_names=names)}
    with pytest.raises(UserError) as refused:
        join(files)
    assert words in str(refused.value) and "\n" not in str(refused.value)


def test_other_labels_are_named():
    first = make_scores(5, 3, labels=np.array([0, 1, 2, 0, 1]))
    second = make_scores(5, 3, labels=np.array([0, 1, 2, 2, 1]))
    with pytest.raises(UserError, match=r"1 of 5 videos: video003 is 'Class 0' in A.*'Class 2'"):
        join({"A.npz": first, "B.npz": second})


def test_data_that_were_prepared_otherwise_are_said():
    files = {"A.npz": make_scores(), "B.npz": make_scores(seed=2, data="e2" * 32)}
    _, (note,) = join(files)
    assert "A.npz on d1d1d1d1d1d1" in note and "B.npz on e2e2e2e2e2e2" in note


def test_weights_rules_and_members_that_do_not_fit_are_refused():
    files = members()
    for weights, words in (
        ([1.0, 2.0], "found 2 weights for 3 score files"),
        ([1.0, 0.0, 1.0], "all must be above 0"),
        ([1.0, float("nan"), 1.0], "all must be above 0"),
    ):
        with pytest.raises(UserError, match=words):
            join(files, weights)
    with pytest.raises(UserError, match="two score files or more, found 1"):
        join({"A.npz": make_scores()})
    with pytest.raises(UserError, match="no rule 'max'; rules: logits, probabilities, h2cn"):
        join(files, rule="max")
    files["5.npz"] = make_scores(averaging="probabilities")
    with pytest.raises(UserError, match=r"h2cn needs logits, 5\.npz has averaged probabilities"):
        join(files, rule="h2cn")
    joined, _ = join(members(), rule="probabilities")
    with pytest.raises(UserError, match="h2cn needs logits"):
        join({"a": joined, "b": make_scores()}, rule="h2cn")


def test_one_test_under_two_names_is_said():
    files = {"A.npz": make_scores(), "copy.npz": make_scores(), "B.npz": make_scores(frames=16)}
    _, (note,) = join(files)
    assert note == "A.npz and copy.npz are of the same weights, data and protocol"
