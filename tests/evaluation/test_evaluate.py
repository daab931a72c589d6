"""The evaluation step: what counts, and what does not."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from aia_jax import sharding
from aia_jax.data.prefetch import prefetch_to_mesh
from aia_jax.evaluation.evaluate import try_eval_batch
from aia_jax.evaluation.step import make_eval_step
from aia_jax.training import metrics
from tests.helpers.quick_jit import quick_jit
from tests.helpers.tiny_net import TinyNet, make_batch, make_state


def test_padding_rows_count_nothing_even_when_they_are_nan():
    model, tx = TinyNet(), optax.sgd(0.1)
    variables = make_state(model, tx).eval_variables()
    batch = {**make_batch(5), "weights": jnp.ones(5)}
    eval_step = quick_jit(make_eval_step(model))
    sums = eval_step(variables, batch)
    padded = {name: jnp.concatenate([rows, rows[:2]]) for name, rows in batch.items()} | {
        "weights": jnp.asarray([1.0] * 5 + [0.0] * 2)
    }
    padded_sums = eval_step(variables, padded)
    assert {name: x.dtype for name, x in sums.items()} == dict.fromkeys(
        ("loss", "top1", "top5", "weight"), jnp.float32
    )
    for name, total in sums.items():
        assert float(padded_sums[name]) == pytest.approx(float(total), rel=1e-6)
    assert float(sums["weight"]) == 5
    assert float(sums["top5"]) == 5

    logits = jnp.asarray([[1.0, 0.0], [jnp.nan, jnp.nan]])
    nan_row = metrics.weighted_sums(logits, jnp.asarray([0, 1]), jnp.asarray([1.0, 0.0]))
    assert np.isfinite(float(nan_row["loss"]))
    assert float(nan_row["top1"]) == 1


def test_the_batch_that_is_tried_first_is_one_of_evaluates():
    """So its compiled program is theirs."""
    mesh = sharding.make_mesh({"data": -1, "fsdp": 1, "time": 1})
    eval_step = jax.jit(lambda variables, batch: {name: rows.sum() for name, rows in batch.items()})
    try_eval_batch(eval_step, {}, mesh, 6, (8, 12, 12, 3))
    (split,) = prefetch_to_mesh(
        iter(
            [
                {
                    "clips": np.ones((6, 8, 12, 12, 3), np.uint8),
                    "labels": np.zeros(6, np.int32),
                    "weights": np.ones(6, np.float32),
                }
            ]
        ),
        mesh,
    )
    eval_step({}, split)
    assert eval_step._cache_size() == 1
