"""The norm of all gradients against optax's."""

import jax
import numpy as np
import optax
import pytest

from aia_jax.training.optimizer import global_norm


@pytest.mark.parametrize("sizes", [[(3,)], [(70, 70)], [(), (1,), (3, 3, 3, 2), (64, 64), (5000,)]])
def test_equals_optax(sizes):
    rng = np.random.default_rng(0)
    gradients = {str(i): rng.normal(size=size).astype("f4") for i, size in enumerate(sizes)}
    found = jax.jit(global_norm)(gradients)
    assert found.shape == () and found.dtype == np.float32
    np.testing.assert_allclose(found, optax.tree.norm(gradients), rtol=1e-6)


def test_small_gradients_are_summed_together():
    """One by one, the sums of attention's 400 would be a third of what a training step takes to
    compile.
    """
    text = jax.jit(global_norm).lower([np.ones(6, "f4")] * 50).as_text()
    assert text.count("stablehlo.reduce(") == 1
