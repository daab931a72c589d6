"""What GPUs and TPUs compute where CPUs compute something else, run here: the same numbers.

tests/ops/axis_attention compares whole attention modules.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aia_jax.ops import axis_attention, residual_relu
from aia_jax.ops.axis_attention.gating import pool_axes
from tests.helpers.quick_jit import quick_jit


def on_cpus_and_elsewhere(function, *operands):
    """The results of a function as a CPU computes them, and as other backends do."""
    jax.clear_caches()  # operations are traced once a shape
    on_cpus = quick_jit(function)(*operands)
    jax.clear_caches()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            jax.lax, "platform_dependent", lambda *operands, default, **_: default(*operands)
        )
        elsewhere = quick_jit(function)(*operands)
    jax.clear_caches()
    return zip(jax.tree.leaves(on_cpus), jax.tree.leaves(elsewhere), strict=True)


@pytest.mark.parametrize("gate_axes", [(), (1, 4)])
def test_equal_maxima_share_the_gradient_as_on_a_cpu(gate_axes):
    rng = np.random.default_rng(0)
    # Three of four maxima are not alone.
    x = rng.integers(-2, 3, (2, 3, 4, 5, 6)).astype("f4")
    gates = tuple(rng.integers(1, 3, np.delete(x.shape, axis)).astype("f4") for axis in gate_axes)

    def pools_and_gradients(x, gates):
        pools, gradient = jax.vjp(
            lambda x, gates: pool_axes(x, gates, gate_axes, (1, 2, 3, 4)), x, gates
        )
        return pools, gradient(jax.tree.map(jnp.sin, pools))

    for on_cpus, elsewhere in on_cpus_and_elsewhere(pools_and_gradients, x, gates):
        np.testing.assert_allclose(elsewhere, on_cpus, rtol=1e-5, atol=1e-5)


def test_the_end_of_a_block_is_that_of_a_cpu():
    branch, shortcut = np.random.default_rng(0).normal(size=(2, 3, 4, 5, 6)).astype("f4")

    def value_and_gradients(branch, shortcut):
        y, gradient = jax.vjp(residual_relu, branch, shortcut)
        return y, gradient(jnp.sin(y))

    for on_cpus, elsewhere in on_cpus_and_elsewhere(value_and_gradients, branch, shortcut):
        np.testing.assert_allclose(elsewhere, on_cpus, rtol=1e-6)


@pytest.mark.parametrize("platform", ["cpu", "cuda", "tpu"])
def test_only_cpus_convolve(platform):
    one, kernel = np.ones(1, "f4"), np.ones((3, 3, 3, 2), "f4")
    parameters = {
        unit: {"conv": {"kernel": kernel}, "bn": {"scale": one, "bias": one}} for unit in "CTHW"
    }
    statistics = {unit: {"bn": {"mean": one, "var": one}} for unit in "CTHW"}

    def gradients(x, parameters):
        def loss(x, parameters):
            return axis_attention(
                x, parameters, statistics, guide=("T", "H", "W"), host=("C",), train=True
            )[0].sum()

        return jax.grad(loss, (0, 1))(x, parameters)

    traced = jax.jit(gradients).trace(np.ones((2, 3, 9, 5, 8), "f4"), parameters)
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    assert ("stablehlo.convolution" in text) == (platform == "cpu")
    # Every round of a loop would copy planes, and start kernels.
    assert "stablehlo.while" not in text
