"""Convolutions of clips against XLA's 3-D convolution."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aia_jax.ops.clip_convolution import convolve_clips
from tests.helpers.quick_jit import quick_jit


def draw(*shape):
    return np.random.default_rng(len(shape) + sum(shape)).normal(size=shape)


def by_xla(x, kernel, stride):
    """The definition: a 3-D convolution with a padding of one."""
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (1, stride, stride),
        [(1, 1)] * 3,
        dimension_numbers=("NDHWC", "DHWIO", "NDHWC"),
    )


@pytest.mark.parametrize(("frames", "stride"), [(1, 1), (2, 2), (5, 1)])
def test_values_and_gradients_are_those_of_a_3d_convolution(frames, stride):
    with jax.enable_x64(True):
        x, kernel = draw(2, frames, 6, 7, 3), draw(3, 3, 3, 3, 4)

        def both(convolution, x, kernel):
            y, pull_back = jax.vjp(functools.partial(convolution, stride=stride), x, kernel)
            return y, pull_back(jnp.asarray(np.arange(y.size).reshape(y.shape) / y.size))

        found, expected = (
            quick_jit(functools.partial(both, f))(x, kernel) for f in (convolve_clips, by_xla)
        )
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-9), found, expected)


def test_half_precision_adds_the_frames_in_float32():
    x, kernel = (
        jnp.asarray(draw(*shape), jnp.bfloat16) for shape in [(1, 3, 4, 4, 8), (3,) * 3 + (8, 2)]
    )
    found = convolve_clips(x, kernel)
    assert found.dtype == jnp.bfloat16
    expected = np.asarray(by_xla(x.astype("f4"), kernel.astype("f4"), 1))
    assert np.abs(np.asarray(found, "f4") - expected).max() < 0.01 * np.abs(expected).max()
