"""Kernels on an NVIDIA GPU against a CPU's numbers. Other tests run them by Pallas' interpreter;
here the compiled ones run.

JAX_PLATFORMS=cuda,cpu python -m pytest tests/ops/test_on_gpu.py
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aia_jax.models.attention.expression import Attention
from aia_jax.ops import attention

pytestmark = pytest.mark.skipif(
    jax.default_backend() != "gpu", reason="needs a GPU and JAX_PLATFORMS=cuda,cpu"
)


# Sizes that fill tiles and programs, and sizes that do not; one line and several for each thread of
# the stencils.
@pytest.mark.parametrize("shape", [(4, 8, 28, 28, 64), (2, 5, 7, 9, 24), (32, 8, 14, 14, 32)])
@pytest.mark.parametrize(("dtype", "bound"), [(jnp.float32, 1e-3), (jnp.bfloat16, 5e-2)])
def test_attention_and_its_gradients(shape, dtype, bound):
    module = Attention("CinST->STinC", relu=True)
    x = jax.random.normal(jax.random.key(0), shape).astype(dtype)
    variables = module.init(jax.random.key(1), x[:1], False)

    def step(variables, x):
        def loss(params, x):
            y, updates = module.apply(
                variables | {"params": params}, x, True, mutable=["batch_stats"]
            )
            return jnp.sin(3 * y.astype(jnp.float32)).sum(), (y, updates)

        return jax.value_and_grad(loss, (0, 1), has_aux=True)(variables["params"], x)

    with jax.default_matmul_precision("highest"):
        gpu, cpu = (
            jax.jit(step)(*jax.device_put((variables, x), jax.devices(name)[0]))
            for name in ("gpu", "cpu")
        )
    for (path, a), b in zip(
        jax.tree_util.tree_leaves_with_path(jax.device_get(gpu)),
        jax.tree.leaves(jax.device_get(cpu)),
        strict=True,
    ):
        a, b = (np.asarray(each, np.float64) for each in (a, b))
        assert np.linalg.norm(a - b) <= bound * np.linalg.norm(b) + 1e-6, jax.tree_util.keystr(path)


# A ViT's 197 tokens, of which cuDNN has no gradient, and an even number.
@pytest.mark.parametrize("tokens", [197, 64])
def test_attention_of_tokens_in_cudnn(tokens):
    *operands, cotangent = np.random.default_rng(0).normal(size=(4, 8, tokens, 12, 64))

    def step(*operands):
        result, pull_back = jax.vjp(attention, *operands)
        return result, pull_back(jnp.asarray(cotangent, result.dtype))

    on_gpu = jax.jit(step).lower(*(jnp.asarray(x, jnp.bfloat16) for x in operands)).compile()
    assert "cudnn" in on_gpu.as_text()
    found = on_gpu(*(jnp.asarray(x, jnp.bfloat16) for x in operands))
    with jax.default_device(jax.devices("cpu")[0]):
        expected = jax.jit(step)(*(jnp.asarray(x, jnp.float32) for x in operands))
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        a, b = (np.asarray(each, np.float64) for each in (a, b))
        assert np.linalg.norm(a - b) <= 2e-2 * np.linalg.norm(b)
