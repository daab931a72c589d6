"""The stencil against XLA's own 3-D convolution, values and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from aia_jax.ops import stencil


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
