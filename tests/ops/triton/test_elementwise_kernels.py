"""Kernels over planes, interpreted: several programs, of which the last one is not full."""

import numpy as np
import pytest

from aia_jax.ops.triton.elementwise_kernels import (
    elementwise_kernel,
    num_programs,
    sum_products_kernel,
)
from tests.helpers.quick_jit import quick_jit

SHAPE = (2, 9, 30, 31)


@pytest.fixture
def planes():
    return np.random.default_rng(0).normal(size=(3, *SHAPE)).astype("f4")


def test_sums_of_each_clip(planes, interpreter):
    first, second, factor = planes
    sums = quick_jit(lambda *planes: sum_products_kernel(lambda a, b: a * b, *planes))(*planes)
    assert sums.shape == (2, num_programs(9 * 30 * 31), 2) == (2, 3, 2)
    product = first * second
    expected = [product.sum((1, 2, 3)), (product * factor).sum((1, 2, 3))]
    np.testing.assert_allclose(sums.sum(1), np.stack(expected, -1), rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("moments", [[[0.5, 1.5]], [[0.5, 1.5], [0.25, 2.0]]])
def test_elements_with_moments_of_all_clips_or_of_each(moments, planes, interpreter):
    moments = np.float32(moments)

    def run(plane, moments, number):
        function = lambda x, m, s: x * m[0] + m[1] * s  # noqa: E731
        return elementwise_kernel(function, (plane,), (moments,), (number,), "float32")

    result = quick_jit(run)(planes[0], moments, np.float32([3.0]))
    slopes, offsets = (moments[:, n, None, None, None] for n in range(2))
    np.testing.assert_allclose(result, planes[0] * slopes + 3 * offsets, rtol=1e-6)
