"""Loss and top-k against PyTorch and by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from aia_jax.training import metrics


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_equals_torch(smoothing):
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(5, 7)).astype("f4"), rng.integers(0, 7, 5)
    ours = metrics.cross_entropy(jnp.asarray(logits), jnp.asarray(labels), smoothing)
    theirs = torch.nn.functional.cross_entropy(
        torch.tensor(logits), torch.tensor(labels), label_smoothing=smoothing, reduction="none"
    )
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_of_soft_targets_equals_torch(smoothing):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(5, 7)).astype("f4")
    targets = rng.dirichlet(np.ones(7), 5).astype("f4")
    ours = metrics.cross_entropy(jnp.asarray(logits), jnp.asarray(targets), smoothing)
    theirs = torch.nn.functional.cross_entropy(
        torch.tensor(logits), torch.tensor(targets), label_smoothing=smoothing, reduction="none"
    )
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-5)


def test_one_hot_targets_are_labels():
    rng = np.random.default_rng(1)
    logits, labels = jnp.asarray(rng.normal(size=(6, 7)), "float32"), jnp.arange(6)
    one_hot = jax.nn.one_hot(labels, 7)
    for smoothing in (0.0, 0.1):
        hard, soft = (
            metrics.batch_means(metrics.cross_entropy(logits, targets, smoothing), logits, targets)
            for targets in (labels, one_hot)
        )
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), hard, soft)


def test_top1_of_soft_targets_looks_for_the_largest_share():
    logits = jnp.asarray([[3.0, 2.0, 0.0], [0.0, 1.0, 2.0]])
    targets = jnp.asarray([[0.6, 0.4, 0.0], [0.4, 0.35, 0.25]])
    means = metrics.batch_means(metrics.cross_entropy(logits, targets), logits, targets)
    assert float(means["top1"]) == 0.5


def test_top5_of_three_classes_is_everything():
    logits, labels = jnp.zeros((4, 3)), jnp.asarray([0, 1, 2, 2])
    assert metrics.topk_correct(logits, labels, 5).sum() == 4
    assert metrics.topk_correct(logits, labels, 1).sum() == 1  # of equal logits the lowest class


def test_several_labels_are_found_by_the_foremost_of_them():
    logits = jnp.asarray([[3.0, 2.0, 1.0, 0.0, -1.0, -2.0], [3.0, 3.0, 0.0, 0.0, 0.0, 0.0]])
    labels = [[1, 0, 0, 0, 0, 1], [0, 1, 1, 0, 0, 0]], [[0] * 6, [0, 0, 0, 0, 0, 1]]
    (both, tied), (none, last) = jnp.asarray(labels, "uint8")
    rows = [metrics.any_topk_correct(logits, jnp.stack([both, tied]), k).tolist() for k in (1, 2)]
    assert rows == [[1, 0], [1, 1]]
    # A row without any label is never right; the sixth of six classes is not among five.
    rows = [metrics.any_topk_correct(logits, jnp.stack([none, last]), k).tolist() for k in (5, 6)]
    assert rows == [[0, 0], [0, 1]]


def test_top1_of_mixed_labels_counts_those_with_the_largest_share():
    logits = jnp.asarray([[3.0, 2.0, 1.0]])
    for shares, right in (((0.4, 0.6, 0.6), 0), ((0.6, 0.4, 0.6), 1), ((0.0, 0.0, 0.0), 0)):
        assert float(metrics.any_topk_correct(logits, jnp.asarray([shares]), 1)[0]) == right
