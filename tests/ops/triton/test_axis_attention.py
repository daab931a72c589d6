"""The one gradient of an attention module in passes, against the composition that other backends
run.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aia_jax import create_model
from aia_jax.errors import UserError
from aia_jax.export.classifier import export_classifier
from aia_jax.models.attention.aia import Attention
from aia_jax.ops.triton.availability import SWITCH, use_gpu_kernels
from tests.helpers.tiny_variables import drawn


@pytest.fixture
def with_and_without_kernels(monkeypatch):
    """What a function answers where modules run in passes, and where they do not."""

    def results(function, *operands):
        for used in "10":
            monkeypatch.setenv(SWITCH, used)
            jax.clear_caches()  # the choice is made while tracing
            yield jax.jit(function)(*operands)
        jax.clear_caches()

    return results


def in_training(attention, variables, x):
    def loss(params, x):
        y, updates = attention.apply(
            variables | {"params": params}, x, True, mutable=["batch_stats"]
        )
        return jnp.sin(3 * y).sum(), (y, updates)

    return jax.value_and_grad(loss, (0, 1), has_aux=True)(variables["params"], x)


def in_evaluation(attention, variables, x):
    return jax.value_and_grad(lambda x: jnp.sin(3 * attention.apply(variables, x, False)).sum())(x)


def variables_and_feature(attention):
    x = jnp.round(jax.random.normal(jax.random.key(0), (2, 3, 5, 4, 8)), 1)  # with equal maxima
    keys = iter(jax.random.split(jax.random.key(1), 1000))
    variables = jax.tree.map(
        lambda leaf: leaf + jax.random.uniform(next(keys), leaf.shape) / 4,
        attention.init(next(keys), x, False),
    )
    return variables, x


@pytest.mark.parametrize(
    ("expression", "relu", "run"),
    [
        ("CinST", False, in_training),
        ("STinC", True, in_training),
        ("C", True, in_training),
        ("C", True, in_evaluation),
    ],
)
def test_passes_give_the_composition_s_numbers(expression, relu, run, with_and_without_kernels):
    attention = Attention(expression, relu=relu)
    ours, composed = with_and_without_kernels(
        functools.partial(run, attention), *variables_and_feature(attention)
    )
    for (path, a), b in zip(
        jax.tree_util.tree_leaves_with_path(ours), jax.tree.leaves(composed), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-5, err_msg=jax.tree_util.keystr(path))


def test_a_module_keeps_its_feature_and_planes_only(monkeypatch):
    monkeypatch.setenv(SWITCH, "1")
    attention = Attention("C")
    variables, x = variables_and_feature(attention)

    def refined(x, variables):
        return attention.apply(variables, x, True, mutable=["batch_stats"])[0]

    kept = jax.tree.leaves(jax.vjp(refined, x, variables)[1])
    assert [leaf.shape for leaf in {id(leaf): leaf for leaf in kept}.values()].count(x.shape) == 1
    jax.clear_caches()


def test_only_nvidia_s_gpus_get_kernels(monkeypatch):
    monkeypatch.setenv(SWITCH, "1")
    jax.clear_caches()
    attention = Attention("C")
    variables, x = variables_and_feature(attention)
    step = jax.jit(functools.partial(in_evaluation, attention)).trace(variables, x)
    for platform in ("cpu", "cuda", "tpu"):
        assert ("gpu.triton" in step.lower(lowering_platforms=(platform,)).as_text()) == (
            platform == "cuda"
        )
    jax.clear_caches()


def test_an_exported_network_has_none(monkeypatch):
    """JAX refuses to export them, as no later version is bound to run them."""
    monkeypatch.setenv(SWITCH, "1")
    model = create_model(3, attention="C", stage_sizes=(1,), width=4)
    variables = drawn(model, jnp.zeros((1, 2, 16, 16, 3)))
    exported = export_classifier(model, variables, (2, 16, 16, 3), ("cuda",))
    assert "gpu.triton" not in exported.mlir_module()


def test_the_switch_takes_no_other_value(monkeypatch):
    monkeypatch.setenv(SWITCH, "off")
    with pytest.raises(UserError, match="AIA_GPU_KERNELS is 'off'"):
        use_gpu_kernels(jnp.zeros(3))
