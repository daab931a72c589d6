"""Maps resized to the nearest value, against PyTorch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch.nn import functional

from aia_jax.ops.resize import resize_nearest


@pytest.mark.parametrize(("old", "new"), [((2, 3), (14, 9)), ((1, 2), (7, 9)), ((4, 5), (31, 33))])
def test_resizing_takes_the_values_that_pytorch_takes(old, new):
    """Of any number of leading axes; the gradient adds up what was repeated."""
    x = np.random.default_rng(0).normal(size=(1, 2, *old, 3)).astype("f4")
    frames = torch.tensor(x[0]).permute(0, 3, 1, 2)
    expected = functional.interpolate(frames, new, mode="nearest").permute(0, 2, 3, 1).numpy()
    np.testing.assert_array_equal(resize_nearest(x, *new)[0], expected)
    np.testing.assert_array_equal(resize_nearest(x[0], *new), expected)
    counts = jax.grad(lambda x: resize_nearest(x, *new).sum())(jnp.asarray(x))
    assert float(counts.sum()) == x.shape[1] * x.shape[-1] * new[0] * new[1]
