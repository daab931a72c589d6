"""Convolutions go to the library that the compiler's options name, and give the same numbers there;
reductions stay where they are.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aia_jax import compile_cache
from aia_jax.compile_cache import compiler_options


@pytest.fixture(autouse=True)
def asked_anew():
    compiler_options.cache_clear()
    yield
    compiler_options.cache_clear()


def convolve(x, kernel):
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def test_a_convolution_is_not_given_to_ynnpack():
    rng = np.random.default_rng(0)
    x, kernel = (
        rng.normal(size=(8, 56, 56, 64)).astype("f4"),
        rng.normal(size=(3, 3, 64, 64)).astype("f4"),
    )
    usual = jax.jit(convolve).lower(x, kernel).compile()
    chosen = jax.jit(convolve, compiler_options=compiler_options()).lower(x, kernel).compile()
    assert "ynn_fusion" in usual.as_text()  # where this no longer holds the option has had its time
    assert "ynn_fusion" not in chosen.as_text()
    np.testing.assert_allclose(chosen(x, kernel), usual(x, kernel), atol=1e-3)


def test_a_reduction_stays_with_ynnpack():
    """Eigen's would make some training steps 2.8 times slower."""
    x = jnp.zeros((8, 56, 56, 64))
    chosen = (
        jax.jit(lambda x: x.sum((0, 1, 2)), compiler_options=compiler_options()).lower(x).compile()
    )
    assert "ynn_fusion" in chosen.as_text()


def test_an_option_that_this_jaxlib_does_not_know_is_left_out(monkeypatch):
    monkeypatch.setattr(compile_cache, "_CONVOLUTIONS_BY_EIGEN", {"xla_cpu_no_such_option": "1"})
    assert compiler_options() == {}
    assert jax.jit(jnp.sin, compiler_options=compiler_options())(0.0) == 0


def test_other_backends_get_none(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    assert compiler_options() == {}
