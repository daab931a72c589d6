"""Verb, noun and action of EPIC-KITCHENS from two files."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aia_jax.errors import UserError
from aia_jax.evaluation.actions import action_ranks, combine
from aia_jax.evaluation.metrics import ranks, summarize
from tests.helpers.tiny_scores import make_scores


def make_files(seed=0, **fields):
    verb = make_scores(25, 4, seed=seed, label="verb", dataset="epic55", **fields)
    noun = make_scores(25, 7, seed=seed + 1, label="noun", dataset="epic55")
    return {"V.npz": verb, "N.npz": noun}


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_ranks_equal_a_plain_loop(seed):
    verb, noun = make_files(seed).values()
    expected = []
    for row in range(25):
        products = np.add.outer(
            *(one.logits[row].astype(float) - np.log(np.exp(one.logits[row].astype(float)).sum())
              for one in (verb, noun))
        )  # fmt: skip
        expected.append((products > products[verb.labels[row], noun.labels[row]] + 1e-12).sum())
    np.testing.assert_array_equal(action_ranks(verb, noun), expected)


def test_of_equal_products_the_lower_verb_and_then_the_lower_noun_counts_as_larger():
    labels = np.arange(6)
    verb, noun = (
        make_scores(logits=np.zeros((6, classes)), labels=numbers, label=label)
        for classes, numbers, label in ((2, labels // 3, "verb"), (3, labels % 3, "noun"))
    )
    np.testing.assert_array_equal(action_ranks(verb, noun), labels)


def test_an_action_is_right_where_both_are(monkeypatch):
    files = make_files()
    monkeypatch.setattr("aia_jax.evaluation.actions._CELLS", 60)  # several pieces
    found = combine(files)
    verb, noun = files.values()
    both = (ranks(verb.logits, verb.labels) < 1) & (ranks(noun.logits, noun.labels) < 1)
    assert found.top1 == both.mean() == (action_ranks(verb, noun) < 1).mean()
    assert found.top1 <= found.top5 <= 1
    assert found.verb == summarize(verb) and found.noun == summarize(noun)
    assert not found.notes


def test_segments_are_matched_by_id_and_counted_where_both_have_scores():
    files = make_files(damaged=(2, 3))
    expected = combine(files)
    assert (expected.evaluated, expected.expected) == (23, 25)
    files["N.npz"] = files["N.npz"].rows(np.random.default_rng(0).permutation(25))
    assert combine(files) == expected


def test_files_in_the_wrong_places_are_refused():
    files = make_files()
    with pytest.raises(UserError, match=r"N\.npz has nouns and V\.npz has verbs"):
        combine(dict(reversed(files.items())))
    with pytest.raises(UserError, match="both have scores of the label 'verb'"):
        combine({"V.npz": files["V.npz"], "W.npz": files["V.npz"]})
    files["N.npz"] = files["N.npz"].rows(np.arange(20))
    with pytest.raises(UserError, match=r"5 videos only in V\.npz"):
        combine(files)
    assert combine(files, common=True).expected == 20
