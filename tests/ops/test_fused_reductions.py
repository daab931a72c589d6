"""Fused reductions against NumPy's, for axes of every kind of length."""

import re

import jax
import numpy as np
import pytest

from aia_jax.ops.fused_reductions import maximum_and_sum, maximum_sum_and_ties, sum_each, sum_rows

# One step of unrolled arithmetic; a full vector or none; steps with and without a rest; more than
# one level of steps.
LENGTHS = [1, 5, 8, 16, 19, 24, 120, 128, 130]


@pytest.mark.parametrize("axis", [0, 2])
@pytest.mark.parametrize("length", LENGTHS)
def test_maximum_sum_and_ties_equal_separate_reductions(axis, length):
    """The numbers are small and whole: sums are exact, and most maxima are not alone."""
    shape = np.insert([2, 3], axis, length)
    x = np.random.default_rng(length).integers(-3, 3, shape).astype("f4")
    both, all_three = jax.jit(lambda x: (maximum_and_sum(x, axis), maximum_sum_and_ties(x, axis)))(
        x
    )
    ties = (x == x.max(axis, keepdims=True)).sum(axis)
    for ours, expected in zip(
        (*both, *all_three), (x.max(axis), x.sum(axis), x.max(axis), x.sum(axis), ties), strict=True
    ):
        np.testing.assert_array_equal(ours, expected)


@pytest.mark.parametrize("axis", [0, 1])
def test_no_pass_is_for_one_result_alone(axis):
    text = jax.jit(maximum_and_sum, static_argnums=1).lower(np.ones((56, 56), "f4"), axis).as_text()
    assert "stablehlo.reduce" in text
    assert not re.findall(
        r"stablehlo.reduce\(%\S+ init: %\S+\) .*tensor<(\S+)xf32>, tensor<f32>\) ->", text
    )


@pytest.mark.parametrize("axis", [0, 1])
def test_nan_and_infinity_stay_so(axis):
    reduce = jax.jit(maximum_and_sum, static_argnums=1)
    for value in (np.nan, np.inf, -np.inf):
        x = np.zeros((32, 32), "f4")
        x[20, 21] = value
        maximum, total = reduce(x, axis)
        np.testing.assert_array_equal(maximum, x.max(axis))
        np.testing.assert_array_equal(total, x.sum(axis))


@pytest.mark.parametrize("length", LENGTHS)
def test_several_arrays_are_summed_over_an_axis(length):
    arrays = np.random.default_rng(length).normal(size=(2, 2, length, 3)).astype("f4")
    for ours, array in zip(jax.jit(lambda *a: sum_each(a, 1))(*arrays), arrays, strict=True):
        np.testing.assert_allclose(ours, array.sum(1, dtype="f8"), atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 1), (3, 40), (2, 32, 5), (3, 19, 4), (2, 6, 7, 9)])
def test_several_arrays_are_summed_over_their_rows(shape):
    arrays = np.random.default_rng(0).normal(size=(3, *shape)).astype("f4")
    for ours, array in zip(jax.jit(sum_rows)(*arrays), arrays, strict=True):
        np.testing.assert_allclose(ours, array.reshape(shape[0], -1).sum(1, dtype="f8"), atol=2e-3)
