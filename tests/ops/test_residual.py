"""The end of a block: its value, its gradient, and a NaN in it."""

import jax
import jax.numpy as jnp
import numpy as np

from aia_jax.ops import residual_relu


def test_value_and_gradient_are_those_of_the_rectified_sum():
    rng = np.random.default_rng(2)
    a, b, weights = rng.normal(size=(3, 2, 3, 3, 4)).astype("f4")
    np.testing.assert_array_equal(jax.jit(residual_relu)(a, b), np.maximum(a + b, 0))
    ours = jax.jit(jax.grad(lambda *v: jnp.vdot(residual_relu(*v), weights), (0, 1)))(a, b)
    for gradient in ours:
        np.testing.assert_array_equal(gradient, np.where(a + b > 0, weights, 0))


def test_a_nan_stays_where_it_is():
    """It must reach the loss."""
    a = np.zeros((1, 2, 2, 1), "f4")
    for where in [(0, 0, 0, 0), (0, 1, 1, 0)]:
        broken = a.copy()
        broken[where] = np.nan
        assert np.isnan(jax.jit(residual_relu)(broken, a)[where])
