"""A unit's gate in kernels, interpreted, against its equations."""

import jax
import jax.numpy as jnp
import numpy as np

from aia_jax.ops.triton.axis_gate import axis_gate
from tests.helpers.quick_jit import quick_jit

LENGTH, GROUPS, EPSILON = 8, 2, 1e-5


def by_equations(maximum, mean, kernel, scale, bias):
    response = jax.lax.conv_general_dilated(
        jnp.stack([maximum, mean], -1),
        kernel[..., None],
        (1, 1, 1),
        "SAME",
        dimension_numbers=("NDHWC", "DHWIO", "NDHWC"),
        precision="highest",
    )[..., 0]
    split = response.reshape(GROUPS, -1)
    mean, variance = split.mean(1, keepdims=True), split.var(1, keepdims=True)
    normalized = (split - mean) / jnp.sqrt(variance + EPSILON)
    gate = jax.nn.sigmoid(normalized * scale + bias).reshape(response.shape)
    return gate, mean, variance


def with_gradients(function, *operands):
    results, gradient = jax.vjp(function, *operands)
    return results, gradient((jnp.sin(5 * results[0]), *map(jnp.zeros_like, results[1:])))


def test_gate_statistics_and_gradients_follow_the_equations(interpreter):
    rng = np.random.default_rng(0)
    maximum, mean = rng.normal(size=(2, 4, 3, 7, 9)).astype("f4")
    ties = rng.integers(1, 4, maximum.shape).astype("f4")
    kernel = rng.normal(size=(3, 3, 3, 2)).astype("f4")
    operands = maximum, mean, kernel, np.float32([1.3]), np.float32([-0.2])

    def ours(maximum, mean, *rest):
        return axis_gate(maximum, mean, ties, *rest, LENGTH, GROUPS, EPSILON)

    results, (dmaximum, dmean, *others) = quick_jit(lambda *given: with_gradients(ours, *given))(
        *operands
    )
    expected = quick_jit(lambda *given: with_gradients(by_equations, *given))(*operands)
    # The gradients of a pool are those of one element.
    actual = results, (dmaximum * ties, dmean * LENGTH, *others)
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-5)
