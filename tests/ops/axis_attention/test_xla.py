"""Gates and pools of what they refine against XLA's own products and reductions, values and
gradients.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aia_jax.ops import gated, gated_pools


def refined(x, gates, gate_axes):
    """What gates leave of a feature, by the definition: each stretched along its axis, their mean
    multiplied.
    """
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


GATE_AXES = [(), (4,), (1, 2, 3)]


@pytest.mark.parametrize("gate_axes", GATE_AXES)
@pytest.mark.parametrize("axes", [(1,), (2,), (3,), (4,), (1, 2, 3)])
def test_pools_and_their_gradients_equal_jax_reductions(axes, gate_axes):
    x, gates = feature_and_gates(gate_axes)

    def plain(x, gates):
        z = refined(x, gates, gate_axes)
        return tuple((z.max(axis), z.mean(axis)) for axis in axes)

    def ours(x, gates):
        return gated_pools(x, gates, gate_axes, axes)

    expected, expected_gradient = jax.vjp(plain, x, gates)
    weights = jax.tree.map(lambda v: jax.random.normal(jax.random.key(3), v.shape), expected)
    for a, b in zip(
        jax.tree.leaves(jax.jit(ours)(x, gates)), jax.tree.leaves(expected), strict=True
    ):
        np.testing.assert_allclose(a, b, atol=1e-6)
    gradient = jax.jit(lambda x, gates: jax.vjp(ours, x, gates)[1](weights))(x, gates)
    for a, b in zip(
        jax.tree.leaves(gradient), jax.tree.leaves(expected_gradient(weights)), strict=True
    ):
        np.testing.assert_allclose(a, b, atol=2e-6)


@pytest.mark.parametrize("gate_axes", GATE_AXES[1:])
def test_gated_and_its_gradients_equal_the_stretched_product(gate_axes):
    x, gates = feature_and_gates(gate_axes)
    weights = np.random.default_rng(3).normal(size=x.shape).astype("f4")
    np.testing.assert_allclose(gated(x, gates, gate_axes), refined(x, gates, gate_axes), atol=1e-6)
    ours = jax.grad(lambda x, gates: jnp.vdot(gated(x, gates, gate_axes), weights), (0, 1))(
        x, gates
    )
    plain = jax.grad(lambda x, gates: jnp.vdot(refined(x, gates, gate_axes), weights), (0, 1))(
        x, gates
    )
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-6)


def test_equal_maxima_share_the_gradient():
    """Constant regions are common after bfloat16 rounding; the pooled gradient must not be
    multiplied there.
    """
    gradient = jax.grad(lambda v: gated_pools(v, (), (), (1,))[0][0].sum())(
        jnp.ones((1, 4, 2, 2, 2))
    )
    np.testing.assert_allclose(gradient, 0.25)


def test_bfloat16_features_pool_to_float32():
    """And what gates leave of them is not rounded before it is pooled."""
    x, gate = jnp.full((1, 3, 2, 2, 4), 0.1, jnp.bfloat16), jnp.full((1, 3, 2, 2), 0.3)
    ((maximum, mean),) = gated_pools(x, (gate,), (4,), (4,))
    assert maximum.dtype == mean.dtype == jnp.float32
    np.testing.assert_allclose(mean, float(jnp.bfloat16(0.1)) * 0.3, rtol=1e-6)
    np.testing.assert_allclose(maximum, mean, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_maximum_s_gradient_finds_the_maximum_again(dtype):
    """It looks for the elements that equal a maximum computed in another place: a product rounded
    otherwise would match none.
    """
    x, gates = feature_and_gates((4,))
    x = jnp.asarray(x, dtype)
    step = jax.jit(jax.grad(lambda v: gated_pools(v, gates, (4,), (1, 2, 3))[1][0].sum()))
    winners = np.asarray(refined(x.astype("f4"), gates, (4,))).argmax(2)
    mask = np.arange(x.shape[2])[None, None, :, None, None] == np.expand_dims(winners, 2)
    np.testing.assert_allclose(step(x).astype("f4"), mask * np.expand_dims(gates[0], 4), rtol=1e-2)


def test_no_refined_feature_and_no_stretched_gate_is_kept_for_the_gradient():
    x, gates = feature_and_gates((1, 2, 3))

    def attention(x, gates):
        return gated(x, gates, (1, 2, 3)), gated_pools(x, gates, (1, 2, 3), (4,))

    kept = jax.tree.leaves(jax.vjp(attention, jnp.asarray(x), gates)[1])
    assert [leaf.shape for leaf in {id(leaf): leaf for leaf in kept}.values()].count(
        x.shape
    ) == 1  # x itself


def test_maxima_of_a_half_precision_product_are_found_again():
    """The gradient of a maximum goes where the product equals it. A product rounded in one of two
    passes equals nothing.
    """
    x = jax.random.normal(jax.random.key(0), (2, 3, 6, 5, 16)).astype(jnp.bfloat16)
    gate = jax.random.uniform(jax.random.key(1), x.shape[:-1])
    axes = (1, 2, 3, 4)

    def sum_of_maxima(x):
        return sum(
            maximum.sum() for maximum, _ in gated_pools(gated(x, (gate,), (4,)), (), (), axes)
        )

    gradient = jax.jit(jax.grad(sum_of_maxima))
    shares = gradient(x).astype("f4") / gate[..., None]
    np.testing.assert_allclose(
        shares.sum(), sum(x.size / x.shape[axis] for axis in axes), rtol=1e-3
    )
    # XLA for GPUs may leave out a cast; not this.
    assert "reduce_precision" in gradient.trace(x).lower(lowering_platforms=("cuda",)).as_text()
