"""Views go through the network in parts, and a continued test keeps every video in its row."""

import numpy as np
import pytest

from aia_jax.evaluation.scoring import choose_batch, remaining_rows
from aia_jax.evaluation.step import make_view_step
from aia_jax.models.preprocess import preprocessing
from tests.helpers.quick_jit import quick_jit
from tests.helpers.tiny_net import TinyNet, make_batch, make_variables


@pytest.mark.parametrize(
    ("clips", "views", "shards", "expected"),
    [
        (32, 1, 1, (32, 1)),
        (32, 6, 1, (5, 6)),
        (32, 6, 8, (8, 3)),
        (32, 30, 4, (4, 6)),
        (4, 30, 4, (4, 1)),
        (4, 10, 1, (1, 2)),
        (32, 30, 1, (1, 30)),
    ],
)
def test_a_call_takes_no_more_clips_than_a_batch_has(clips, views, shards, expected):
    assert choose_batch(clips, views, shards) == expected


def test_every_batch_fits_its_mesh():
    for clips, views, shards in np.ndindex(9, 31, 5):
        if not (clips and views and shards):
            continue
        videos, at_once = choose_batch(clips * shards, views, shards)
        assert videos % shards == 0 and views % at_once == 0
        assert 0 < videos * at_once <= clips * shards


def test_videos_keep_their_rows_whatever_is_done():
    done = np.zeros(10, bool)
    assert remaining_rows(done, 4).tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, -1, -1]
    done[[0, 1, 2, 3, 5]] = True
    assert remaining_rows(done, 4).tolist() == [4, -1, 6, 7, 8, 9, -1, -1]
    assert remaining_rows(np.ones(10, bool), 4).tolist() == []


def test_parts_of_the_views_give_the_logits_of_all():
    model = TinyNet()
    variables = make_variables(model)
    clips = np.stack([make_batch(4, seed=seed)["clips"] for seed in range(3)], axis=1)
    batch = {"clips": clips, "weights": np.array([1, 1, 0, 1], np.float32)}
    whole, weights = quick_jit(make_view_step(model, 3))(variables, batch, np.int32(0))
    assert whole.shape[:2] == (4, 3) and weights.tolist() == [1, 1, 0, 1]
    step = quick_jit(make_view_step(model, 1))
    parts = [step(variables, batch, np.int32(view))[0] for view in range(3)]
    np.testing.assert_allclose(np.concatenate(parts, axis=1), whole, atol=1e-5)
    one = model.apply(variables, preprocessing(model)(clips[:, 1]), train=False)
    np.testing.assert_allclose(whole[:, 1], one, atol=1e-5)
    single, _ = step(variables, batch | {"clips": clips[:, 1]}, np.int32(0))
    np.testing.assert_array_equal(single, parts[1])
