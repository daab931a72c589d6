"""Batch normalisation against what JAX derives from its definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aia_jax.ops import batch_normalized, batch_normalized_sigmoid

EPSILON = 1e-5


def by_definition(x, scale, bias, groups):
    parts = x.reshape(groups, -1, *x.shape[1:])
    axes = tuple(range(1, parts.ndim - 1))
    mean, variance = parts.mean(axes), parts.var(axes)
    stretched = [jnp.expand_dims(v, axes) for v in (mean, variance)]
    return (
        ((parts - stretched[0]) / jnp.sqrt(stretched[1] + EPSILON) * scale + bias).reshape(x.shape),
        mean,
        variance,
    )


@settings(max_examples=5, deadline=None)
@given(
    groups=st.integers(1, 3),
    rows=st.integers(1, 3),
    inner=st.lists(st.integers(1, 4), max_size=3),
    channels=st.integers(1, 4),
)
def test_batch_normalisation_and_its_gradient(groups, rows, inner, channels):
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        x, weights = jnp.asarray(rng.normal(3, 2, (2, groups * rows, *inner, channels)))
        scale, bias = jnp.asarray(rng.normal(size=(2, channels)))
        for ours, theirs in zip(
            batch_normalized(x, scale, bias, groups, EPSILON),
            by_definition(x, scale, bias, groups),
            strict=True,
        ):
            np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9)
        ours = jax.grad(
            lambda *a: jnp.vdot(batch_normalized(*a, groups, EPSILON)[0], weights), (0, 1, 2)
        )(x, scale, bias)
        theirs = jax.grad(lambda *a: jnp.vdot(by_definition(*a, groups)[0], weights), (0, 1, 2))(
            x, scale, bias
        )
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


def test_a_constant_channel_is_normalised_to_its_bias_with_finite_gradients():
    x = jnp.full((4, 3, 2), 0.3)
    y, _, variance = batch_normalized(x, jnp.ones(2), jnp.array([1.0, 2.0]), 1, EPSILON)
    np.testing.assert_allclose(y, jnp.broadcast_to(jnp.array([1.0, 2.0]), y.shape), atol=1e-3)
    assert (variance >= 0).all()
    gradient = jax.grad(
        lambda v: jnp.vdot(batch_normalized(v, jnp.ones(2), jnp.zeros(2), 1, EPSILON)[0], x)
    )(x)
    assert jnp.isfinite(gradient).all()


@pytest.mark.parametrize("groups", [1, 2])
def test_sigmoid_of_what_is_normalised_and_its_gradient(groups):
    with jax.enable_x64(True):
        rng = np.random.default_rng(2)
        x, weights = jnp.asarray(rng.normal(3, 2, (2, 4, 3, 2, 5, 1)))
        operands = x, jnp.array([1.5]), jnp.array([-0.5])

        def ours(*operands):
            return batch_normalized_sigmoid(*operands, groups, EPSILON)

        def theirs(*operands):
            y, *statistics = by_definition(*operands, groups)
            return jax.nn.sigmoid(y), *statistics

        for a, b in zip(ours(*operands), theirs(*operands), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9)
        gradients = [
            jax.grad(lambda *a, f=f: jnp.vdot(f(*a)[0], weights), (0, 1, 2))(*operands)
            for f in (ours, theirs)
        ]
        for a, b in zip(*gradients, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_types_and_what_is_kept_for_the_gradient(dtype):
    x = jnp.asarray(np.random.default_rng(1).normal(size=(4, 5, 6, 3)), dtype)
    (y, mean, _), gradient_of = jax.vjp(
        lambda v: batch_normalized(v, jnp.ones(3), jnp.zeros(3), 2, EPSILON), x
    )
    assert (y.dtype, mean.dtype, mean.shape) == (x.dtype, jnp.float32, (2, 3))
    kept = {id(leaf): leaf.shape for leaf in jax.tree.leaves(gradient_of)}
    assert list(kept.values()).count(x.shape) == 1  # x itself
