"""What is kept apart from its readers is computed once for all of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aia_jax.ops.xla_fusion import apart, kept


def read_twice(keep):
    def function(x):
        kept = keep(lambda x: jnp.maximum(x, 0.5), x)
        return kept + 1, kept.sum(0) * kept.T

    return function


def test_on_a_cpu_it_is_a_call_that_nothing_is_fused_with():
    x = jnp.ones((64, 64))
    apart_text, together_text = (
        jax.jit(read_twice(keep)).lower(x).compile().as_text()
        for keep in (apart, lambda function, x: function(x))
    )
    assert together_text.count(" maximum(") > 1  # what it is for
    assert apart_text.count(" maximum(") == 1 and apart_text.count('inlineable="false"') == 1


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_elsewhere_readers_may_be_fused_with_it(platform):
    text = (
        jax.jit(read_twice(apart))
        .trace(jnp.ones((4, 4)))
        .lower(lowering_platforms=(platform,))
        .as_text()
    )
    assert "optimization_barrier" not in text and 'inlineable = "false"' not in text


def test_what_is_kept_is_behind_a_barrier_and_its_gradient_is_not():
    x = jnp.ones(3)
    assert jax.jit(kept).lower(x).as_text().count("optimization_barrier") == 1
    value_and_gradient = jax.jit(jax.value_and_grad(lambda x: jnp.sin(kept(x)).sum()))
    assert value_and_gradient.lower(x).as_text().count("optimization_barrier") == 1
    np.testing.assert_allclose(value_and_gradient(x)[1], jnp.cos(x), rtol=1e-6)


def test_it_has_the_function_s_value_and_gradient_and_can_be_mapped():
    x = jnp.arange(1.0, 7.0).reshape(2, 3)
    for transformed in (lambda f: f, lambda f: jax.grad(lambda x: f(x).sum()), jax.vmap):
        ours = transformed(lambda x: apart(lambda x: jnp.sin(x) * x, x))(x)
        np.testing.assert_allclose(ours, transformed(lambda x: jnp.sin(x) * x)(x), rtol=1e-6)
