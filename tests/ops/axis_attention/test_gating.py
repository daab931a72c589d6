"""Pools and gates against JAX's own reductions and products: values and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aia_jax.ops.axis_attention.gating import apply_gates, pool_axes
from tests.helpers.quick_jit import quick_jit


def refined(x, gates, gate_axes):
    """x times the mean of its gates, each broadcast along its axis."""
    return x * (
        sum(jnp.expand_dims(gate, axis) for gate, axis in zip(gates, gate_axes, strict=True))
        / len(gates)
        if gates
        else 1
    )


def feature_and_gates(gate_axes):
    rng = np.random.default_rng(2)
    x = rng.normal(size=(2, 3, 4, 5, 6)).astype("f4")
    return x, tuple(rng.uniform(size=np.delete(x.shape, axis)).astype("f4") for axis in gate_axes)


@pytest.mark.parametrize(
    ("gate_axes", "axes"), [((), (1, 2, 3, 4)), ((4,), (1, 2, 3)), ((1, 2, 3), (4,)), ((3,), (2,))]
)
def test_pools_and_their_gradients_equal_jax_reductions(axes, gate_axes):
    x, gates = feature_and_gates(gate_axes)

    def plain(x, gates):
        z = refined(x, gates, gate_axes)
        return tuple((z.max(axis), z.mean(axis)) for axis in axes)

    def ours(x, gates):
        return pool_axes(x, gates, gate_axes, axes)

    weights = [
        np.random.default_rng(axis).normal(size=(2, *np.delete(x.shape, axis))).astype("f4")
        for axis in axes
    ]

    def pools_and_gradients(function):
        def run(x, gates):
            pools, gradient = jax.vjp(function, x, gates)
            return pools, gradient(tuple((w[0], w[1]) for w in map(jnp.asarray, weights)))

        return quick_jit(run)(x, gates)

    pools, gradients = pools_and_gradients(ours)
    expected_pools, expected_gradients = pools_and_gradients(plain)
    for a, b in zip(jax.tree.leaves(pools), jax.tree.leaves(expected_pools), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    for a, b in zip(jax.tree.leaves(gradients), jax.tree.leaves(expected_gradients), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-6)


@pytest.mark.parametrize("gate_axes", [(4,), (1, 2, 3)])
def test_gates_and_their_gradients_equal_the_broadcast_product(gate_axes):
    x, gates = feature_and_gates(gate_axes)
    weights = np.random.default_rng(3).normal(size=x.shape).astype("f4")

    def product_and_gradients(function):
        def loss(x, gates):
            y = function(x, gates, gate_axes)
            return jnp.vdot(y, weights), y

        return quick_jit(jax.grad(loss, (0, 1), has_aux=True))(x, gates)

    gradients, product = product_and_gradients(apply_gates)
    expected_gradients, expected = product_and_gradients(refined)
    np.testing.assert_allclose(product, expected, atol=1e-6)
    for a, b in zip(jax.tree.leaves(gradients), jax.tree.leaves(expected_gradients), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-6)


def test_equal_maxima_share_the_gradient():
    """Constant regions are common after bfloat16 rounding; the gradient must not be multiplied."""
    gradient = jax.grad(lambda v: pool_axes(v, (), (), (1,))[0][0].sum())(jnp.ones((1, 4, 2, 2, 2)))
    np.testing.assert_allclose(gradient, 0.25)


def test_bfloat16_features_pool_to_float32():
    """The product with gates is pooled before it is rounded to bfloat16."""
    x, gate = jnp.full((1, 3, 2, 2, 4), 0.1, jnp.bfloat16), jnp.full((1, 3, 2, 2), 0.3)
    ((maximum, mean),) = pool_axes(x, (gate,), (4,), (4,))
    assert maximum.dtype == mean.dtype == jnp.float32
    np.testing.assert_allclose(mean, float(jnp.bfloat16(0.1)) * 0.3, rtol=1e-6)
    np.testing.assert_allclose(maximum, mean, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_gradient_of_a_maximum_goes_to_the_element_that_has_it(dtype):
    """The gradient compares the product with a maximum that another pass computed: if the two
    passes rounded differently, no element would match.
    """
    x, gates = feature_and_gates((4,))
    x = jnp.asarray(x, dtype)
    step = jax.jit(jax.grad(lambda v: pool_axes(v, gates, (4,), (1, 2, 3))[1][0].sum()))
    winners = np.asarray(refined(x.astype("f4"), gates, (4,))).argmax(2)
    mask = np.arange(x.shape[2])[None, None, :, None, None] == np.expand_dims(winners, 2)
    np.testing.assert_allclose(step(x).astype("f4"), mask * np.expand_dims(gates[0], 4), rtol=1e-2)


def test_only_the_feature_and_planes_are_stored_for_the_gradient():
    x, gates = feature_and_gates((1, 2, 3))

    def attention(x, gates):
        return apply_gates(x, gates, (1, 2, 3)), pool_axes(x, gates, (1, 2, 3), (4,))

    stored = jax.tree.leaves(jax.vjp(attention, jnp.asarray(x), gates)[1])
    shapes = [leaf.shape for leaf in {id(leaf): leaf for leaf in stored}.values()]
    assert shapes.count(x.shape) == 1  # x itself


def test_the_gradient_finds_the_maxima_of_a_product_rounded_to_half_precision():
    """A product that is rounded in one of two passes only would equal no maximum."""
    x = jax.random.normal(jax.random.key(0), (2, 3, 6, 5, 16)).astype(jnp.bfloat16)
    gate = jax.random.uniform(jax.random.key(1), x.shape[:-1])
    axes = (1, 4)

    def sum_of_maxima(x):
        return sum(
            maximum.sum() for maximum, _ in pool_axes(apply_gates(x, (gate,), (4,)), (), (), axes)
        )

    gradient = jax.jit(jax.grad(sum_of_maxima))
    shares = gradient(x).astype("f4") / gate[..., None]
    np.testing.assert_allclose(
        shares.sum(), sum(x.size / x.shape[axis] for axis in axes), rtol=1e-3
    )
    # XLA for GPUs may leave out a cast, but not this operation.
    assert "reduce_precision" in gradient.trace(x).lower(lowering_platforms=("cuda",)).as_text()
