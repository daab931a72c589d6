"""The stencil, in all forms that some backend uses, against XLA's own 3-D convolution: values and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aia_jax.ops import stencil
from aia_jax.ops.banded import banded_stencil
from aia_jax.ops.pooled_stencil import gradient_by_taps


def convolved(maximum, mean, kernel):
    pair = jnp.stack([maximum, mean], -1)
    return jax.lax.conv_general_dilated(
        pair, kernel[..., None], (1, 1, 1), "SAME", dimension_numbers=("NDHWC", "DHWIO", "NDHWC"), precision="highest"
    )[..., 0]


@settings(max_examples=12, deadline=None)
@given(shape=st.tuples(st.integers(1, 2), st.integers(1, 18), st.integers(1, 5), st.integers(1, 5)))
def test_stencil_equals_a_convolution(shape):
    rng = np.random.default_rng(0)
    maximum, mean = rng.normal(size=(2, *shape)).astype("f4")
    kernel = rng.normal(size=(3, 3, 3, 2)).astype("f4")
    for form in (stencil, banded_stencil):
        np.testing.assert_allclose(jax.jit(form)(maximum, mean, kernel), convolved(maximum, mean, kernel), atol=2e-5)


@pytest.mark.parametrize("length", [3, 8, 19])
def test_stencil_gradients_equal_the_convolution_s(length):
    rng = np.random.default_rng(1)
    maximum, mean, weights = rng.normal(size=(3, 2, length, 4, 5)).astype("f4")
    kernel = rng.normal(size=(3, 3, 3, 2)).astype("f4")
    theirs = jax.grad(lambda *a: jnp.vdot(convolved(*a), weights), argnums=(0, 1, 2))(maximum, mean, kernel)
    here = jax.jit(jax.grad(lambda *a: jnp.vdot(stencil(*a), weights), argnums=(0, 1, 2)))(maximum, mean, kernel)
    elsewhere = jax.jit(gradient_by_taps)(weights, maximum, mean, kernel)  # of backends other than CPUs
    for ours in (here, elsewhere):
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a, b, atol=6e-5)
