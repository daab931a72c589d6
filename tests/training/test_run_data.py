"""What a run finds out from its data, and settings that do not fit them."""

import numpy as np
import pytest

from aia_jax import sharding
from aia_jax.errors import UserError
from aia_jax.shards.index import Index
from aia_jax.training.run_data import open_run_data
from configs import base
from tests.helpers.tiny_data import make_dataset

CLASSES = ("a", "b", "c")


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("single"), 3, CLASSES)


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    return make_dataset(
        tmp_path_factory.mktemp("several"), 3, CLASSES, label_sets=[(0, 2), (1,), (2, 1)]
    )


def open_data(folder, **fields):
    config = base.get_config()
    config.data.update(dir=str(folder), crop=16, resize=(24, 32), **fields)
    config.train.batch_size = 4
    return config, open_run_data(config, sharding.make_mesh(config.mesh))


def test_the_kind_of_labels_is_that_of_the_data(single, several):
    config, data = open_data(single)
    assert (config.data.label_kind, data.loading["multi_hot"]) == ("single", 0)
    assert data.training_labels.tolist() == [k % 3 for k in range(9)]
    config, data = open_data(several)
    assert (config.data.label_kind, data.loading["multi_hot"]) == ("multi", 3)
    assert data.training_labels[:3].tolist() == [[1, 0, 1], [0, 1, 0], [0, 1, 1]]
    with pytest.raises(UserError, match=r"several labels each; set --config.data.label_kind=multi"):
        open_data(several, label_kind="single")
    with pytest.raises(UserError, match=r"one label each; set --config.data.label_kind=single"):
        open_data(single, label_kind="multi")


def test_balance_is_said_and_is_for_single_labels(tmp_path, single, several):
    _, data = open_data(single, balance=1.0)
    assert any(
        "data.balance=1: an epoch shows a video of the smallest" in one for one in data.notes
    )
    assert not any("balance" in note for note in open_data(single)[1].notes)
    with pytest.raises(
        UserError, match="have several labels each; leave it out, or even out the l"
    ):
        open_data(several, balance=0.5)


def test_a_damaged_video_keeps_its_place_among_the_labels(tmp_path):
    folder = make_dataset(tmp_path, 3, CLASSES, ("train", "validation"), shards=1)
    shard = next(folder.glob("*-train.tfrecord-*"))
    index = Index.load(folder / "train.index")
    content = bytearray(shard.read_bytes())
    content[int(index.record_offset[2]) + 40] ^= 1
    shard.write_bytes(content)
    (folder / "train.index").unlink()
    _, data = open_data(folder, balance=1.0)
    assert data.training_labels.tolist() == [0, 1, -1, 0, 1, 2, 0, 1, 2]
    drawn = np.concatenate([data.plan.records(step) for step in range(20)])
    assert 2 not in drawn
