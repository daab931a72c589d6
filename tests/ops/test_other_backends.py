"""What GPUs and TPUs compute where CPUs compute something else, run here: the same numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aia_jax.models.attention.aia import Attention
from aia_jax.ops import gated_pools, residual_relu


@pytest.fixture
def variables_and_feature():
    x = jnp.round(jax.random.normal(jax.random.key(0), (2, 3, 9, 5, 8)), 1)  # with equal maxima
    return jax.jit(Attention("STinC").init, static_argnums=2)(jax.random.key(1), x, False), x


def value_and_gradients(variables, x):
    def loss(params, x):
        y, updates = Attention("STinC").apply(
            variables | {"params": params}, x, True, mutable=["batch_stats"]
        )
        return jnp.sin(residual_relu(y[0], x[0])).sum(), updates

    (value, updates), gradients = jax.value_and_grad(loss, (0, 1), has_aux=True)(
        variables["params"], x
    )
    return value, updates, gradients


@pytest.fixture
def here_and_elsewhere(monkeypatch):
    """The results of a function as a CPU computes them, and as other backends do."""

    def results(function, *operands):
        here = jax.jit(function)(*operands)
        jax.clear_caches()  # operations are traced once a shape
        monkeypatch.setattr(
            jax.lax, "platform_dependent", lambda *operands, default, **_: default(*operands)
        )
        elsewhere = jax.jit(function)(*operands)
        jax.clear_caches()
        return zip(jax.tree.leaves(here), jax.tree.leaves(elsewhere), strict=True)

    return results


def test_numbers_are_those_of_a_cpu(variables_and_feature, here_and_elsewhere):
    for a, b in here_and_elsewhere(value_and_gradients, *variables_and_feature):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("gate_axes", [(), (4,), (1, 2, 3)])
def test_equal_maxima_share_the_gradient_as_on_a_cpu(gate_axes, here_and_elsewhere):
    x = jax.random.randint(jax.random.key(0), (2, 3, 4, 5, 6), -2, 3).astype(
        "f4"
    )  # three of four maxima are not alone
    gates = tuple(
        jax.random.randint(jax.random.key(axis), np.delete(x.shape, axis), 1, 3).astype("f4")
        for axis in gate_axes
    )

    def gradients(x, gates):
        pools, gradient_of = jax.vjp(
            lambda x, gates: gated_pools(x, gates, gate_axes, (1, 2, 3, 4)), x, gates
        )
        return pools, gradient_of(jax.tree.map(jnp.sin, pools))

    for a, b in here_and_elsewhere(gradients, x, gates):
        np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("platform", ["cpu", "cuda", "tpu"])
def test_only_cpus_convolve(platform, variables_and_feature):
    text = (
        jax.jit(value_and_gradients)
        .trace(*variables_and_feature)
        .lower(lowering_platforms=(platform,))
        .as_text()
    )
    assert ("stablehlo.convolution" in text) == (platform == "cpu")
    assert (
        "stablehlo.while" not in text
    )  # every round of a loop would copy planes, and start kernels
