"""Pooling and the stencil against XLA's own reductions and 3-D convolution, values and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aia_jax.ops import axis_pool, stencil


def convolved(maximum, mean, kernel):
    pair = jnp.stack([maximum, mean], -1)
    return jax.lax.conv_general_dilated(
        pair, kernel[..., None], (1, 1, 1), "SAME", dimension_numbers=("NDHWC", "DHWIO", "NDHWC"), precision="highest"
    )[..., 0]


@settings(max_examples=8, deadline=None)
@given(shape=st.tuples(st.integers(1, 2), st.integers(1, 5), st.integers(1, 5), st.integers(1, 5)))
def test_stencil_equals_a_convolution(shape):
    rng = np.random.default_rng(0)
    maximum, mean = rng.normal(size=(2, *shape)).astype("f4")
    kernel = rng.normal(size=(3, 3, 3, 2)).astype("f4")
    np.testing.assert_allclose(jax.jit(stencil)(maximum, mean, kernel), convolved(maximum, mean, kernel), atol=2e-5)


def test_stencil_gradients_equal_the_convolution_s():
    rng = np.random.default_rng(1)
    maximum, mean, weights = rng.normal(size=(3, 2, 3, 4, 5)).astype("f4")
    kernel = rng.normal(size=(3, 3, 3, 2)).astype("f4")
    ours = jax.jit(jax.grad(lambda *a: jnp.vdot(stencil(*a), weights), argnums=(0, 1, 2)))(maximum, mean, kernel)
    theirs = jax.grad(lambda *a: jnp.vdot(convolved(*a), weights), argnums=(0, 1, 2))(maximum, mean, kernel)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, atol=3e-5)


@pytest.mark.parametrize("axis", [1, 2, 3, 4])
def test_pools_and_their_gradients_equal_jax_reductions(axis):
    rng = np.random.default_rng(2)
    x = rng.normal(size=(2, 3, 4, 5, 6)).astype("f4")
    of_max, of_mean = rng.normal(size=(2, *np.delete(x.shape, axis))).astype("f4")

    def plain(v):
        return v.max(axis), v.mean(axis)

    for ours, theirs in zip(jax.jit(axis_pool, static_argnums=1)(x, axis), plain(x), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    ours = jax.vjp(lambda v: axis_pool(v, axis), x)[1]((of_max, of_mean))[0]
    theirs = jax.vjp(plain, x)[1]((of_max, of_mean))[0]
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_equal_maxima_share_the_gradient():
    """Constant regions are common after bfloat16 rounding; the pooled gradient must not be multiplied there."""
    gradient = jax.grad(lambda v: axis_pool(v, 1)[0].sum())(jnp.ones((1, 4, 2, 2, 2)))
    np.testing.assert_allclose(gradient, 0.25)


def test_bfloat16_features_pool_to_float32():
    maximum, mean = axis_pool(jnp.full((1, 3, 2, 2, 4), 0.1, jnp.bfloat16), 4)
    assert maximum.dtype == mean.dtype == jnp.float32
    np.testing.assert_allclose(mean, float(jnp.bfloat16(0.1)), rtol=1e-6)
