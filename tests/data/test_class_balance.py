"""Balanced sampling: shares of classes, even use of their videos, the same on every host."""

import pickle

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from aia_jax.data.plan import BatchPlan

LABELS = np.repeat([0, 2, 1, 3], [40, 12, 7, 1])


def epoch_rows(plan: BatchPlan, epoch: int) -> np.ndarray:
    """The records of an epoch of batches of 1."""
    return np.concatenate(
        [plan.records(epoch * plan.steps_per_epoch + step) for step in range(plan.steps_per_epoch)]
    )


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=8),
    st.floats(0.01, 1),
    st.integers(0, 2**64),
    st.integers(1, 5),
)
def test_classes_have_their_shares_and_videos_take_turns(counts, balance, seed, epochs):
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    plan = BatchPlan(len(labels), 1, seed, labels=labels, balance=balance)
    assert plan.steps_per_epoch == len(labels)
    uses = np.bincount(
        np.concatenate([epoch_rows(plan, epoch) for epoch in range(epochs)]), minlength=len(labels)
    )
    weights = np.array(counts) ** (1 - balance)
    wanted = epochs * len(labels) * weights / weights.sum()
    for label, share in enumerate(wanted):
        own = uses[labels == label]
        assert abs(own.sum() - share) < 1.01  # the weights are rounded
        assert np.ptp(own) <= 1


def test_an_epoch_is_in_random_order_and_depends_on_seed_and_epoch():
    plans = [BatchPlan(60, 1, seed, labels=LABELS, balance=1.0) for seed in (0, 1)]
    rows = [epoch_rows(plan, epoch) for plan in plans for epoch in (0, 1)]
    assert all((a != b).mean() > 0.8 for i, a in enumerate(rows) for b in rows[:i])
    changes = (np.diff(LABELS[rows[0]]) != 0).sum()
    assert changes > 30  # sorted by class there were 3


def test_a_copy_that_starts_later_makes_the_same_batches():
    plan = BatchPlan(60, 8, 5, labels=LABELS, balance=0.5)
    before = [plan.records(step) for step in range(40)]
    copy = pickle.loads(pickle.dumps(BatchPlan(60, 8, 5, labels=LABELS, balance=0.5)))
    for step in (39, 0, 17):
        np.testing.assert_array_equal(copy.records(step), before[step])


def test_damaged_records_are_not_drawn_and_epochs_keep_their_length():
    labels = np.where(np.arange(60) % 6 == 0, -1, LABELS)
    ids = np.arange(5, 60)
    plan = BatchPlan(ids, 5, 0, labels=labels, balance=1.0)
    assert plan.steps_per_epoch == 11
    drawn = np.concatenate([plan.records(step) for step in range(33)])
    replacing = [plan.draw_record(plan.rng(0, row)) for row in range(2000)]
    for records in (drawn, replacing):
        assert set(records) <= set(ids.tolist())
        shares = np.bincount(labels[records] + 1, minlength=5) / len(records)
        assert shares[0] == 0
        np.testing.assert_allclose(shares[1:], 1 / 4, atol=0.05)
    without_any = BatchPlan(10, 5, 0, labels=np.full(10, -1), balance=1.0)
    assert without_any.balance is None


def test_what_the_user_is_told():
    plan = BatchPlan(60, 5, 0, labels=LABELS, balance=1.0)
    assert plan.balance.describe() == (
        "an epoch shows a video of the smallest class (1 video) 15 times and one of the largest "
        "class (40 videos) 0.375 times"
    )
