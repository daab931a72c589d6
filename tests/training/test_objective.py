"""Weighted, smoothed and sigmoid losses against PyTorch; weights of the classes by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from aia_jax.errors import UserError
from aia_jax.training.objective import Objective, class_weights, make_objective
from configs import base

VIDEOS = np.array([1, 2, 7, 0])
WEIGHTS = np.array([0.5, 2.0, 0.0, 1.0, 1.5], "f4")


def make_config(**train):
    config = base.get_config()
    config.train.update(train)
    return config


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("soft", [False, True])
def test_weighted_cross_entropy_equals_torch(smoothing, soft):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(6, 5)).astype("f4")
    targets = rng.dirichlet(np.ones(5), 6).astype("f4") if soft else rng.integers(0, 5, 6)
    objective = Objective(5, smoothing, WEIGHTS)
    theirs = torch.nn.functional.cross_entropy(
        torch.tensor(logits),
        torch.tensor(targets),
        weight=torch.tensor(WEIGHTS),
        label_smoothing=smoothing,
        reduction="none",
    )
    ours = objective.losses(jnp.asarray(logits), jnp.asarray(targets))
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-5, atol=1e-6)
    shares = objective.targets(jnp.asarray(targets))
    np.testing.assert_allclose(objective.losses(jnp.asarray(logits), shares), ours, rtol=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_sigmoid_cross_entropy_equals_torch(smoothing, weights):
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(6, 5)).astype("f4") * 5
    targets = rng.integers(0, 2, (6, 5), dtype=np.uint8)
    smooth = targets * (1 - smoothing) + smoothing * 0.5  # half yes, half no
    theirs = torch.nn.functional.binary_cross_entropy_with_logits(
        torch.tensor(logits),
        torch.tensor(smooth, dtype=torch.float32),
        weight=None if weights is None else torch.tensor(weights),
        reduction="none",
    ).mean(1)
    objective = Objective(5, smoothing, weights, multilabel=True)
    for given in (jnp.asarray(targets), objective.targets(jnp.asarray(targets))):
        ours = objective.losses(jnp.asarray(logits), given)
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("multilabel", [False, True])
def test_mixed_targets_have_the_mixed_losses(multilabel):
    """So mixes have a meaning for several labels a video as for one."""
    rng = np.random.default_rng(2)
    logits = jnp.asarray(rng.normal(size=(6, 5)), "float32")
    labels = rng.integers(0, 2, (6, 5), "uint8") if multilabel else rng.integers(0, 5, 6)
    objective = Objective(5, 0.1, WEIGHTS, multilabel)
    one = objective.targets(jnp.asarray(labels))
    other = jnp.roll(one, 1, axis=0)
    np.testing.assert_allclose(
        objective.losses(logits, 0.3 * one + 0.7 * other),
        0.3 * objective.losses(logits, one) + 0.7 * objective.losses(logits, other),
        rtol=1e-5,
    )


def test_targets_are_shares_and_stay_what_they_are():
    single, several = Objective(3), Objective(3, multilabel=True)
    one_hot = single.targets(jnp.asarray([2, 0]))
    np.testing.assert_array_equal(one_hot, [[0, 0, 1], [1, 0, 0]])
    multi_hot = several.targets(jnp.asarray([[1, 0, 1], [0, 0, 0]], "uint8"))
    np.testing.assert_array_equal(multi_hot, [[1, 0, 1], [0, 0, 0]])
    for objective, shares in ((single, one_hot), (several, multi_hot)):
        assert shares.dtype == jnp.float32
        np.testing.assert_array_equal(objective.targets(shares), shares)
    assert (single.label_shape, several.label_shape) == ((), (3,))


def test_without_smoothing_and_weights_the_program_takes_labels_as_they_are():
    def program(objective):
        return str(jax.make_jaxpr(objective.losses)(jnp.zeros((4, 3)), jnp.zeros(4, int)))

    assert "log_softmax" not in program(Objective(3))
    plain = make_objective(make_config(), np.array([0, 1, 2]), 3)
    assert program(plain) == program(Objective(3))
    assert program(plain) != program(Objective(3, class_weights=np.ones(3, "f4")))


@pytest.mark.parametrize("rule", ["inverse", "effective0.9", (4.0, 1.0, 0.5, 3.0)])
@pytest.mark.parametrize("balance", [0.0, 0.5, 1.0])
def test_weights_are_one_on_average_over_the_clips_that_are_drawn(rule, balance):
    weights = class_weights(rule, VIDEOS, balance)
    drawn = np.array([1, 2, 7]) ** (1 - balance)
    assert np.average(weights[:3], weights=drawn) == pytest.approx(1, rel=1e-6)
    expected = {
        "inverse": [1, 1 / 2, 1 / 7],
        "effective0.9": [0.1 / (1 - 0.9**n) for n in (1, 2, 7)],
    }.get(rule, rule[:3])
    np.testing.assert_allclose(
        weights[:3] / weights[0], np.array(expected) / expected[0], rtol=1e-6
    )


def test_a_class_without_videos_has_weight_one_unless_a_list_says_otherwise():
    assert class_weights("inverse", VIDEOS)[3] == 1
    np.testing.assert_allclose(class_weights((1.0, 1.0, 1.0, 3.0), VIDEOS), [1, 1, 1, 3])


@pytest.mark.parametrize("rule", ["inverse", (4.0, 1.0, 0.5, 3.0)])
def test_with_several_labels_weights_are_one_on_average_over_the_classes(rule):
    """Every clip has a term for each class, one without videos too."""
    weights = class_weights(rule, VIDEOS, balance=None)
    assert weights.mean() == pytest.approx(1, rel=1e-6)


def test_the_effective_number_lies_between_none_and_inverse():
    inverse = class_weights("inverse", VIDEOS)
    np.testing.assert_allclose(class_weights("effective0.0", VIDEOS), 1)
    np.testing.assert_allclose(class_weights("effective0.999999999", VIDEOS), inverse, rtol=1e-5)


def test_several_labels_count_for_each_of_their_classes():
    config = make_config(class_weights="inverse")
    config.data.label_kind = "multi"
    labels = np.array([[1, 1, 0], [0, 1, 0], [0, 0, 0], [1, 1, 1]], np.uint8)
    objective = make_objective(config, labels, 3)
    assert objective.multilabel
    # 2, 3 and 1 videos; 1 on average over the classes, as each video has a term for each of them.
    inverse = np.array([1 / 2, 1 / 3, 1])
    np.testing.assert_allclose(objective.class_weights, inverse / inverse.mean(), rtol=1e-6)


def test_labels_that_are_missing_do_not_count():
    config = make_config(class_weights="inverse", label_smoothing=0.1)
    objective = make_objective(config, np.array([0, 1, 1, -1]), 2)
    np.testing.assert_allclose(objective.class_weights, [3 / 2, 3 / 4])
    assert (objective.label_smoothing, objective.multilabel) == (0.1, False)
    assert make_objective(make_config(), np.array([0, 1]), 2).class_weights is None


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ((1.0, 2.0), ["found 2 numbers", "label 2", "expected 3, one for each class"]),
        ((1.0, 2.0, 1.0, 0.3), ["found 4 numbers", "0.3", "label 3, a class that does not exist"]),
        ((0.0, 0.0, 1.0), ["weight 0", "give one of them more"]),
    ],
)
def test_weights_that_do_not_fit_the_classes_are_named(weights, words):
    config = make_config(class_weights=weights)
    with pytest.raises(UserError) as error:
        make_objective(config, np.array([0, 1]), 3)
    assert str(error.value).startswith("config key train.class_weights: ")
    for word in words:
        assert word in str(error.value)
