"""Maximum and sum in one pass against NumPy's, for axes of every length."""

import re

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aia_jax.ops.fused_reductions import maximum_and_sum, maximum_sum_and_ties, sums, sums_of_rows


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
    text = jax.jit(maximum_and_sum, static_argnums=1).lower(np.ones((56, 56), "f4"), axis).as_text()
    assert "stablehlo.reduce" in text
    assert not re.findall(
        r"stablehlo.reduce\(%\S+ init: %\S+\) .*tensor<(\S+)xf32>, tensor<f32>\) ->", text
    )


@pytest.mark.parametrize("axis", [0, 1])
def test_what_is_not_a_number_stays_so(axis):
    for value in (np.nan, np.inf, -np.inf):
        x = np.zeros((32, 32), "f4")
        x[20, 21] = value
        maximum, total = jax.jit(maximum_and_sum, static_argnums=1)(x, axis)
        np.testing.assert_array_equal(maximum, x.max(axis))
        np.testing.assert_array_equal(total, x.sum(axis))


@settings(max_examples=25, deadline=None)
@given(axis=st.integers(0, 1), length=st.integers(1, 130), count=st.integers(1, 3))
def test_sums_of_several_arrays(axis, length, count):
    shape = (count, *np.insert([2, 3], axis, length))
    parts = np.random.default_rng(length).normal(size=shape).astype("f4")
    for ours, part in zip(jax.jit(sums, static_argnums=1)(tuple(parts), axis), parts, strict=True):
        np.testing.assert_allclose(ours, part.sum(axis, dtype="f8"), atol=1e-4)


@settings(max_examples=25, deadline=None)
@given(shape=st.lists(st.integers(1, 40), min_size=2, max_size=4), count=st.integers(1, 3))
def test_sums_of_the_rows_of_several_arrays(shape, count):
    parts = np.random.default_rng(0).normal(size=(count, *shape)).astype("f4")
    for ours, part in zip(jax.jit(sums_of_rows)(*parts), parts, strict=True):
        np.testing.assert_allclose(ours, part.reshape(shape[0], -1).sum(1, dtype="f8"), atol=2e-3)
