"""A materialised result is computed once for all of its readers; a barrier is in one direction."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aia_jax.ops.xla_fusion import at_least_float32, forward_barrier, materialize, round_to


def read_twice(call):
    """A function with two readers of the result of `call(maximum, x)`."""

    def function(x):
        result = call(lambda x: jnp.maximum(x, 0.5), x)
        return result + 1, result.sum(0) * result.T

    return function


def test_cpus_compute_a_materialised_result_once():
    x = jnp.ones((64, 64))
    materialized, fused = (
        jax.jit(read_twice(call)).lower(x).compile().as_text()
        for call in (materialize, lambda function, x: function(x))
    )
    assert fused.count(" maximum(") > 1  # what it is for
    assert materialized.count(" maximum(") == 1
    assert materialized.count('inlineable="false"') == 1


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_other_backends_may_fuse_it_with_its_readers(platform):
    traced = jax.jit(read_twice(materialize)).trace(jnp.ones((4, 4)))
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    assert "optimization_barrier" not in text and 'inlineable = "false"' not in text


def test_a_materialised_function_has_its_value_and_gradient_and_can_be_mapped():
    x = jnp.arange(1.0, 7.0).reshape(2, 3)
    for transform in (lambda f: f, lambda f: jax.grad(lambda x: f(x).sum()), jax.vmap):
        ours = transform(lambda x: materialize(lambda x: jnp.sin(x) * x, x))(x)
        np.testing.assert_allclose(ours, transform(lambda x: jnp.sin(x) * x)(x), rtol=1e-6)


def test_a_forward_barrier_is_before_the_value_and_not_before_its_gradient():
    x = jnp.ones(3)
    assert jax.jit(forward_barrier).lower(x).as_text().count("optimization_barrier") == 1
    value_and_gradient = jax.jit(jax.value_and_grad(lambda x: jnp.sin(forward_barrier(x)).sum()))
    assert value_and_gradient.lower(x).as_text().count("optimization_barrier") == 1
    np.testing.assert_allclose(value_and_gradient(x)[1], jnp.cos(x), rtol=1e-6)


@pytest.mark.parametrize(
    ("dtype", "wide"), [("bfloat16", "float32"), ("float32", "float32"), ("float64", "float64")]
)
def test_a_type_is_at_least_float32(dtype, wide):
    with jax.enable_x64(True):
        assert at_least_float32(jnp.ones(2, dtype)).dtype == wide


def test_a_rounding_cannot_be_left_out():
    x = jnp.float32(1 + 2**-10)
    assert round_to(x, jnp.dtype(jnp.bfloat16)).dtype == jnp.bfloat16
    assert (
        "reduce_precision"
        in jax.jit(lambda x: round_to(x, jnp.dtype(jnp.bfloat16))).lower(x).as_text()
    )
    assert round_to(x, x.dtype) is x
