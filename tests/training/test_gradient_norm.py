"""The norm of all gradients against optax's."""

import jax
import numpy as np
import optax
import pytest

from aia_jax.training.gradient_norm import global_norm


@pytest.mark.parametrize("sizes", [[(3,)], [(70, 70)], [(), (1,), (3, 3, 3, 2), (64, 64), (5000,)]])
def test_equals_optax(sizes):
    rng = np.random.default_rng(0)
    gradients = {str(i): rng.normal(size=size).astype("f4") for i, size in enumerate(sizes)}
    found = jax.jit(global_norm)(gradients)
    assert found.shape == () and found.dtype == np.float32
    np.testing.assert_allclose(found, optax.global_norm(gradients), rtol=1e-6)
