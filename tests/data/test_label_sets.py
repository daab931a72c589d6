"""Batches of videos that have several labels: multi-hot rows, and what a flip does to them."""

from dataclasses import replace

import numpy as np
import pytest

from aia_jax.data.augment import TrainTransform
from aia_jax.data.flips import flip_pairs
from aia_jax.data.pipeline import eval_batches, train_batches
from aia_jax.data.plan import BatchPlan
from aia_jax.shards.reader import ShardReader, open_split
from tests.helpers.tiny_data import make_dataset
from tests.helpers.tiny_pipeline import assert_same, take

CLASSES = ("moving left", "moving right", "standing", "turning left")
SETS = ((0, 2), (1,), (3, 2), (1, 0), (2,))
TRANSFORM = TrainTransform(2, 16, flip_pairs(CLASSES).partner, resize=(24, 32), flip=1.0)


@pytest.fixture(scope="module")
def reader(tmp_path_factory) -> ShardReader:
    folder = make_dataset(
        tmp_path_factory.mktemp("sets"), 2, CLASSES, ("train",), frames=4, label_sets=SETS
    )
    return open_split(folder, "train")


def multi_hot(labels: tuple[int, ...]) -> list[int]:
    return [int(k in labels) for k in range(len(CLASSES))]


def test_a_flip_swaps_the_columns_of_sides(reader):
    plan = BatchPlan(len(reader), 8, seed=0)
    mirrored = {(0, 2): (1, 2), (1,): (0,), (3, 2): (3, 2), (1, 0): (0, 1), (2,): (2,)}
    plain, flipped = (
        take(train_batches(reader, plan, one, start_step=0, multi_hot=4), 2)
        for one in (replace(TRANSFORM, flip=0.0), TRANSFORM)
    )
    for before, after in zip(plain, flipped, strict=True):
        assert before["labels"].dtype == np.uint8
        for row, record in enumerate(before["records"]):
            own = SETS[record % len(SETS)]
            assert before["labels"][row].tolist() == multi_hot(own)
            assert after["labels"][row].tolist() == multi_hot(mirrored[own])
            # No other class has the opposite side of class 3.
            pictures = after["clips"][row] if 3 in own else after["clips"][row, :, :, ::-1]
            np.testing.assert_allclose(pictures.astype(int), before["clips"][row], atol=1)


def test_hosts_share_the_rows_of_a_batch(reader):
    plan = BatchPlan(len(reader), 4, seed=0)
    whole = take(train_batches(reader, plan, TRANSFORM, start_step=1, multi_hot=4), 2)
    parts = [
        take(
            train_batches(
                reader, plan, TRANSFORM, start_step=1, multi_hot=4, host_index=k, host_count=2
            ),
            2,
        )
        for k in range(2)
    ]
    joined = [
        {name: np.concatenate([one[name] for one in both]) for name in both[0]}
        for both in zip(*parts, strict=True)
    ]
    assert_same(joined, whole)


def test_rows_without_a_video_have_no_labels(reader):
    batches = take(eval_batches(reader, 5, 2, 16, resize=(24, 32), multi_hot=4), 2)
    labels = np.concatenate([batch["labels"] for batch in batches])
    assert (labels.dtype, len(reader)) == (np.uint8, 8)
    assert labels[:8].tolist() == [multi_hot(SETS[k % len(SETS)]) for k in range(8)]
    assert not labels[8:].any()
