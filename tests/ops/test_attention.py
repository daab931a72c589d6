"""Attention of tokens: its precision in every dtype, and the form that a device gets."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aia_jax.ops import attention, without_gpu_kernels
from aia_jax.ops.triton import availability


def operands(channels=8, scale=1.0):
    query, key, value = np.random.default_rng(0).normal(size=(3, 2, 5, 3, channels))
    return scale * query, key, value


def in_numpy(query, key, value):
    scores = np.einsum("nqhd,nkhd->nhqk", query, key) / np.sqrt(query.shape[-1])
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return np.einsum("nhqk,nkhd->nqhd", weights / weights.sum(-1, keepdims=True), value)


@pytest.mark.parametrize(("dtype", "bound"), [("float32", 1e-6), ("float64", 1e-14)])
def test_equals_the_definition(dtype, bound):
    with jax.enable_x64(dtype == "float64"):
        result = attention(*(x.astype(dtype) for x in operands()))
        assert result.dtype == dtype
        np.testing.assert_allclose(result, in_numpy(*operands()), atol=bound)


def test_half_precision_has_float32_scores_and_softmax():
    """Scores around 100 are 0.5 apart in bfloat16, a factor of 1.6 in their exponentials."""
    rounded = [x.astype(jnp.bfloat16) for x in operands(scale=100.0)]
    result = attention(*rounded)
    assert result.dtype == jnp.bfloat16
    expected = in_numpy(*(np.asarray(x, np.float64) for x in rounded))
    np.testing.assert_allclose(np.asarray(result, np.float64), expected, atol=0.02)


@pytest.fixture
def on_a_gpu(monkeypatch):
    """The default device is taken for an NVIDIA GPU, whose attention is that of XLA.

    As JAX's cuDNN does, it refuses an odd number of tokens.
    """
    plain = jax.nn.dot_product_attention

    def fake(query, key, value, implementation, **lengths):
        if implementation == "cudnn":
            assert query.shape[1] % 2 == 0
        return plain(query, key, value, implementation="xla", **lengths)

    monkeypatch.delenv(availability.ENVIRONMENT_VARIABLE, raising=False)
    monkeypatch.setattr(availability, "_default_device_is_supported", lambda: True)
    monkeypatch.setattr(jax.nn, "dot_product_attention", fake)
    return monkeypatch


def branches(dtype="bfloat16", channels=8):
    """Whether the traced program holds cuDNN's form beside XLA's."""
    arguments = (x.astype(dtype) for x in operands(channels))
    # A new function, or JAX would answer from its cache of programs.
    return "platform_index" in str(jax.make_jaxpr(lambda *x: attention(*x))(*arguments))


def test_cudnn_is_traced_where_it_can_run(on_a_gpu):
    assert branches()
    assert not branches(dtype="float32")
    assert not branches(channels=12)
    assert not branches(channels=136)
    with without_gpu_kernels():
        assert not branches()
    on_a_gpu.setenv(availability.ENVIRONMENT_VARIABLE, "0")
    assert not branches()


@pytest.mark.usefixtures("on_a_gpu")
@pytest.mark.parametrize("tokens", [4, 5])
def test_cudnn_gets_an_even_number_of_tokens_and_computes_the_same(monkeypatch, tokens):
    """With gradients, by sending the program for a CPU through the branch that is for a GPU."""
    arguments = [x[:, :tokens].astype(jnp.bfloat16) for x in operands()]

    def value_and_gradients():
        def loss(*arguments):
            return (attention(*arguments).astype(jnp.float32) ** 2).sum()

        return jax.value_and_grad(loss, argnums=(0, 1, 2))(*arguments)

    expected = value_and_gradients()
    monkeypatch.setattr(
        jax.lax, "platform_dependent", lambda *operands, cuda, default: cuda(*operands)
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(
            a.astype(jnp.float32), b.astype(jnp.float32), rtol=0.02, atol=0.02
        ),
        value_and_gradients(),
        expected,
    )
