"""What GPUs and TPUs compute where CPUs compute something else, run here: the same numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aia_jax.models.attention import Attention
from aia_jax.ops import residual_relu


@pytest.fixture
def variables_and_feature():
    x = jax.random.normal(jax.random.key(0), (2, 3, 9, 5, 8))
    return jax.jit(Attention("STinC").init, static_argnums=2)(jax.random.key(1), x, False), x


def value_and_gradients(variables, x):
    def loss(params, x):
        y, updates = Attention("STinC").apply(variables | {"params": params}, x, True, mutable=["batch_stats"])
        return jnp.sin(residual_relu(y[0], x[0])).sum(), updates

    (value, updates), gradients = jax.value_and_grad(loss, (0, 1), has_aux=True)(variables["params"], x)
    return value, updates, gradients


def test_numbers_are_those_of_a_cpu(variables_and_feature, monkeypatch):
    here = jax.jit(value_and_gradients)(*variables_and_feature)
    jax.clear_caches()  # operations are traced once a shape
    monkeypatch.setattr(jax.lax, "platform_dependent", lambda *operands, cpu, default: default(*operands))
    elsewhere = jax.jit(value_and_gradients)(*variables_and_feature)
    jax.clear_caches()
    for a, b in zip(jax.tree.leaves(elsewhere), jax.tree.leaves(here), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("platform", ["cpu", "cuda", "tpu"])
def test_only_cpus_convolve(platform, variables_and_feature):
    text = jax.jit(value_and_gradients).trace(*variables_and_feature).lower(lowering_platforms=(platform,)).as_text()
    assert ("stablehlo.convolution" in text) == (platform == "cpu")
    assert "stablehlo.while" not in text  # every round of a loop would copy planes, and start kernels
