"""The evaluation step: what counts, and what does not."""

from unittest.mock import create_autospec

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.metrics import average_precision_score

from aia_jax import sharding
from aia_jax.data.prefetch import prefetch_to_mesh
from aia_jax.evaluation.evaluate import evaluate, try_eval_batch
from aia_jax.evaluation.step import make_eval_step
from aia_jax.models.preprocess import preprocessing
from aia_jax.shards.damage_log import DamageLog
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
        ("loss", "top1", "top5", "weight", "class_videos", "class_top1"), jnp.float32
    )
    for name, total in sums.items():
        np.testing.assert_allclose(padded_sums[name], total, rtol=1e-6)
    assert float(sums["weight"]) == 5
    assert float(sums["top5"]) == 5

    logits = jnp.asarray([[1.0, 0.0], [jnp.nan, jnp.nan]])
    nan_row = metrics.weighted_sums(logits, jnp.asarray([0, 1]), jnp.asarray([1.0, 0.0]))
    assert np.isfinite(float(nan_row["loss"]))
    assert float(nan_row["top1"]) == 1


def evaluate_batches(labels, multilabel):
    """The result of 7 videos, of which one is damaged, and the logits and labels that count."""
    model, tx = TinyNet(batch_norm=False), optax.sgd(0.1)
    variables = make_state(model, tx).eval_variables()
    clips, weights = make_batch(8)["clips"], np.array([1, 1, 0, 1, 1, 1, 1, 0], "f4")
    batches = [
        {
            "clips": np.asarray(clips[rows]),
            "labels": labels[rows],
            "weights": weights[rows],
            "damaged": np.full((4, 1), -1),
        }
        for rows in (slice(0, 4), slice(4, 8))
    ]
    mesh = sharding.make_mesh({"data": 1, "fsdp": 1, "time": 1}, jax.devices()[:1])
    result = evaluate(
        quick_jit(make_eval_step(model, multilabel)),
        variables,
        prefetch_to_mesh(iter(batches), mesh),
        7,
        create_autospec(DamageLog, instance=True),
    )
    logits = np.asarray(model.apply(variables, preprocessing(model)(clips)))
    assert (result.evaluated, result.expected) == (6, 7)
    return result, logits[weights > 0], labels[weights > 0]


def test_mean_class_accuracy_is_the_mean_of_the_classes_that_occur():
    result, logits, labels = evaluate_batches(np.array([0, 0, 1, 0, 0, 2, 2, 1], "i4"), False)
    correct = logits.argmax(1) == labels
    by_class = [correct[labels == label].mean() for label in (0, 2)]  # no video of class 1 counts
    assert result.mean_class_accuracy == pytest.approx(np.mean(by_class))
    assert result.mean_class_accuracy != pytest.approx(result.top1)
    assert "map" not in result.to_json()


def test_mean_average_precision_is_that_of_all_batches_together():
    labels = np.array(
        [[1, 0, 0]] * 3 + [[0, 0, 0], [1, 1, 0], [0, 1, 0], [1, 0, 0], [0, 0, 1]], "u1"
    )
    result, logits, labels = evaluate_batches(labels, True)
    precisions = [average_precision_score(labels[:, k], logits[:, k]) for k in (0, 1)]
    assert result.map == pytest.approx(np.mean(precisions))  # class 2 has no video that counts
    found = labels[np.arange(6), logits.argmax(1)]
    assert result.top1 == pytest.approx(found.mean())
    losses = np.logaddexp(0, np.where(labels, -logits, logits)).mean(1)
    assert result.loss == pytest.approx(losses.mean(), rel=1e-5)
    assert "mean_class_accuracy" not in result.to_json()


@pytest.mark.parametrize("label_shape", [(), (3,)])
def test_the_batch_that_is_tried_first_is_one_of_evaluates(label_shape):
    """So its compiled program is theirs."""
    label_dtype = np.uint8 if label_shape else np.int32
    mesh = sharding.make_mesh({"data": -1, "fsdp": 1, "time": 1})
    eval_step = jax.jit(lambda variables, batch: {name: rows.sum() for name, rows in batch.items()})
    try_eval_batch(eval_step, {}, mesh, 6, (8, 12, 12, 3), label_shape)
    (split,) = prefetch_to_mesh(
        iter(
            [
                {
                    "clips": np.ones((6, 8, 12, 12, 3), np.uint8),
                    "labels": np.zeros((6, *label_shape), label_dtype),
                    "weights": np.ones(6, np.float32),
                }
            ]
        ),
        mesh,
    )
    eval_step({}, split)
    assert eval_step._cache_size() == 1
