"""Batch normalisation against what JAX derives from its definition, and against Flax's."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aia_jax.ops import normalize_batch, normalize_batch_sigmoid, normalize_by_statistics
from aia_jax.ops.batch_norm import group_count, running_average
from tests.helpers.quick_jit import quick_jit

EPSILON = 1e-5


def by_definition(x, scale, bias, groups):
    split = x.reshape(groups, -1, *x.shape[1:])
    axes = tuple(range(1, split.ndim - 1))
    mean, variance = split.mean(axes), split.var(axes)
    centred = split - jnp.expand_dims(mean, axes)
    deviation = jnp.sqrt(jnp.expand_dims(variance, axes) + EPSILON)
    return (centred / deviation * scale + bias).reshape(x.shape), mean, variance


def sigmoid_by_definition(*operands):
    y, mean, variance = by_definition(*operands)
    return jax.nn.sigmoid(y), mean, variance


# Groups of one row and of several; features and planes; one channel, which CPUs sum otherwise.
@pytest.mark.parametrize(
    ("groups", "shape"), [(1, (3, 4)), (3, (3, 2, 3)), (2, (4, 3, 2, 5, 3)), (2, (4, 3, 2, 5, 1))]
)
@pytest.mark.parametrize("sigmoid", [False, True])
def test_values_statistics_and_gradients_follow_the_definition(groups, shape, sigmoid):
    ours = normalize_batch_sigmoid if sigmoid else normalize_batch
    definition = sigmoid_by_definition if sigmoid else by_definition
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        x, weights = rng.normal(3, 2, (2, *shape))
        scale, bias = rng.normal(size=(2, shape[-1]))

        def results_and_gradients(function):
            def loss(*operands):
                results = function(*operands)
                return jnp.vdot(results[0], weights), results

            return quick_jit(jax.grad(loss, (0, 1, 2), has_aux=True))(x, scale, bias)

        gradients, results = results_and_gradients(lambda *a: ours(*a, groups, EPSILON))
        expected_gradients, expected = results_and_gradients(lambda *a: definition(*a, groups))
        for a, b in zip(results, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=0 if sigmoid else 1e-9)
        for a, b in zip(gradients, expected_gradients, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-9)


def test_a_constant_channel_is_normalised_to_its_bias_with_finite_gradients():
    x = jnp.full((4, 3, 2), 0.3)
    y, _, variance = normalize_batch(x, jnp.ones(2), jnp.array([1.0, 2.0]), 1, EPSILON)
    np.testing.assert_allclose(y, jnp.broadcast_to(jnp.array([1.0, 2.0]), y.shape), atol=1e-3)
    assert (variance >= 0).all()
    gradient = jax.grad(
        lambda v: jnp.vdot(normalize_batch(v, jnp.ones(2), jnp.zeros(2), 1, EPSILON)[0], x)
    )(x)
    assert jnp.isfinite(gradient).all()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_results_keep_their_types_and_the_gradient_stores_x_once(dtype):
    x = jnp.asarray(np.random.default_rng(1).normal(size=(4, 5, 6, 3)), dtype)
    (y, mean, _), gradient = jax.vjp(
        lambda v: normalize_batch(v, jnp.ones(3), jnp.zeros(3), 2, EPSILON), x
    )
    assert (y.dtype, mean.dtype, mean.shape) == (x.dtype, jnp.float32, (2, 3))
    stored = {id(leaf): leaf.shape for leaf in jax.tree.leaves(gradient)}
    assert list(stored.values()).count(x.shape) == 1


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_normalisation_by_statistics_has_the_bits_of_flax(dtype):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, 3, 4, 5)), dtype)
    mean, var, scale, bias = rng.uniform(0.5, 1.5, (4, 5)).astype("f4")
    variables = {
        "params": {"scale": scale, "bias": bias},
        "batch_stats": {"mean": mean, "var": var},
    }
    theirs = nn.BatchNorm(use_running_average=True, epsilon=EPSILON).apply(variables, x)
    ours = normalize_by_statistics(x, mean, var, scale, bias, EPSILON)
    assert ours.dtype == theirs.dtype == jnp.float32
    np.testing.assert_array_equal(ours, theirs)


def test_rows_are_counted_in_groups_or_refused():
    assert [group_count(6, rows) for rows in (0, 2, 6)] == [1, 3, 1]
    with pytest.raises(ValueError, match="6 rows do not split into groups of 4"):
        group_count(6, 4)


def test_a_running_average_moves_towards_the_mean_over_groups():
    moved = running_average(jnp.array([1.0, 2.0]), jnp.array([[2.0, 0.0], [4.0, 0.0]]), 0.75)
    np.testing.assert_array_equal(moved, [1.5, 1.5])
