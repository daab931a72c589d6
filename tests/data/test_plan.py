"""The plan of global batches: epochs are permutations; only seed, step and row matter."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aia_jax.data.plan import BatchPlan, training_records
from aia_jax.errors import UserError
from aia_jax.shards.reader import open_split
from tests.helpers.tiny_data import make_dataset


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 200), st.integers(1, 40), st.integers(0, 2**64))
def test_an_epoch_is_whole_batches_of_distinct_records(count, batch_size, seed):
    if count < batch_size:
        with pytest.raises(
            UserError,
            match=f"{count} usable videos make no batch of {batch_size}; set train.batch_size",
        ):
            BatchPlan(count, batch_size, seed)
        return
    plan = BatchPlan(count, batch_size, seed)
    assert plan.steps_per_epoch == count // batch_size
    for epoch in range(3):
        steps = range(epoch * plan.steps_per_epoch, (epoch + 1) * plan.steps_per_epoch)
        records = np.concatenate([plan.records(step) for step in steps])
        assert len(records) == len(set(records.tolist())) == count // batch_size * batch_size
        assert 0 <= records.min() <= records.max() < count


def test_epochs_and_seeds_have_permutations_of_their_own():
    plan, other = BatchPlan(100, 10, seed=0), BatchPlan(100, 10, seed=1)
    epochs = [
        np.concatenate([one.records(10 * epoch + k) for k in range(10)])
        for one in (plan, other)
        for epoch in range(3)
    ]
    agree = [(a == b).mean() for i, a in enumerate(epochs) for b in epochs[:i]]
    assert max(agree) < 0.1
    assert np.mean([sorted(epoch[:10]) == epoch[:10].tolist() for epoch in epochs]) == 0


def test_every_record_comes_first_equally_often():
    plan = BatchPlan(5, 5, seed=0)
    first = np.bincount([plan.records(epoch)[0] for epoch in range(2000)])
    assert abs(first - 400).max() < 90  # 5 standard deviations


def test_rows_have_random_numbers_of_their_own():
    plan = BatchPlan(20, 4, seed=0)
    draws = [plan.rng(step, row).random(4) for step in range(50) for row in range(4)]
    assert len({tuple(draw) for draw in draws}) == 200
    np.testing.assert_array_equal(plan.rng(7, 2).random(4), draws[7 * 4 + 2])
    assert (BatchPlan(20, 4, seed=1).rng(0, 0).random(4) != draws[0]).all()


def test_a_copy_in_another_process_is_the_same_plan():
    plan = BatchPlan(np.arange(100, 300, 3), 8, seed=5)
    copy = pickle.loads(pickle.dumps(plan))
    for step in (0, 3, 1000):
        np.testing.assert_array_equal(copy.records(step), plan.records(step))


def test_only_the_given_records_are_used():
    ids = np.array([3, 4, 9, 12, 40])
    plan = BatchPlan(ids, 2, seed=0)
    assert plan.num_records == 5
    assert {record for step in range(20) for record in plan.records(step).tolist()} == set(
        ids.tolist()
    )
    assert {plan.draw_record(plan.rng(0, row)) for row in range(40)} == set(ids.tolist())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((10, 0, 0), "train.batch_size=0"), ((10, 2, -1), "seed=-1"), ((0, 1, 0), "0 usable videos")],
)
def test_wrong_numbers(arguments, message):
    with pytest.raises(UserError, match=message):
        BatchPlan(*arguments)


def test_short_videos_are_dropped_and_named(tmp_path):
    reader = open_split(make_dataset(tmp_path, frames=[2, 10, 3, 1]), "train")
    usable, dropped = training_records(reader)
    assert dropped.tolist() == [0, 3, 4, 7, 8]
    assert usable.tolist() == [1, 2, 5, 6]
