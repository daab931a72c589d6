"""Maximum and sum in one pass against NumPy's, for axes of every length."""

import re

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aia_jax.ops.one_pass import maximum_and_sum, maximum_sum_and_ties


@settings(max_examples=25, deadline=None)
@given(axis=st.integers(0, 2), length=st.integers(1, 130))
def test_equals_two_reductions(axis, length):
    shape = np.insert([2, 3], axis, length)
    x = np.random.default_rng(length).normal(size=shape).astype("f4")
    maximum, total = jax.jit(maximum_and_sum, static_argnums=1)(x, axis)
    np.testing.assert_array_equal(maximum, x.max(axis))
    np.testing.assert_allclose(total, x.sum(axis, dtype="f8"), atol=1e-4)


@settings(max_examples=25, deadline=None)
@given(axis=st.integers(0, 2), length=st.integers(1, 130))
def test_elements_that_equal_the_maximum_are_counted(axis, length):
    shape = np.insert([2, 3], axis, length)
    x = np.random.default_rng(length).integers(-3, 3, shape).astype("f4")
    maximum, total, ties = jax.jit(maximum_sum_and_ties, static_argnums=1)(x, axis)
    np.testing.assert_array_equal(maximum, x.max(axis))
    np.testing.assert_array_equal(total, x.sum(axis))
    np.testing.assert_array_equal(ties, (x == x.max(axis, keepdims=True)).sum(axis))


@pytest.mark.parametrize("axis", [0, 1])
def test_no_pass_is_for_one_result_alone(axis):
    """But over the eight elements that the last axis leaves to the end."""
    text = jax.jit(maximum_and_sum, static_argnums=1).lower(np.ones((56, 56), "f4"), axis).as_text()
    alone = re.findall(r"stablehlo.reduce\(%\S+ init: %\S+\) .*tensor<(\S+)xf32>, tensor<f32>\) ->", text)
    assert alone == {0: [], 1: ["56x8", "56x8"]}[axis]


@pytest.mark.parametrize("axis", [0, 1])
def test_what_is_not_a_number_stays_so(axis):
    for value in (np.nan, np.inf, -np.inf):
        x = np.zeros((32, 32), "f4")
        x[20, 21] = value
        maximum, total = jax.jit(maximum_and_sum, static_argnums=1)(x, axis)
        np.testing.assert_array_equal(maximum, x.max(axis))
        np.testing.assert_array_equal(total, x.sum(axis))
