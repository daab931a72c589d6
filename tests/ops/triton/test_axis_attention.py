"""The programs that axis attention in kernels becomes; tests/ops/axis_attention has its numbers."""

import jax
import jax.numpy as jnp
import pytest

from aia_jax import create_model
from aia_jax.export.classifier import export_classifier
from aia_jax.ops import axis_attention
from aia_jax.ops.triton.availability import ENVIRONMENT_VARIABLE
from tests.helpers.tiny_variables import drawn
from tests.helpers.triton_kernels import lowered_text

X = jax.ShapeDtypeStruct((2, 3, 5, 4, 8), jnp.float32)


@pytest.fixture
def train_with_kernels(monkeypatch):
    """Refines X in training, and its operands."""
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, "1")
    one = jax.ShapeDtypeStruct((1,), jnp.float32)
    kernel = jax.ShapeDtypeStruct((3, 3, 3, 2), jnp.float32)
    parameters = {"C": {"conv": {"kernel": kernel}, "bn": {"scale": one, "bias": one}}}
    statistics = {"C": {"bn": {"mean": one, "var": one}}}

    def train(x, parameters, statistics):
        return axis_attention(x, parameters, statistics, host=("C",), train=True)

    return train, (X, parameters, statistics)


def test_a_module_stores_its_feature_and_planes_only(train_with_kernels):
    train, operands = train_with_kernels

    def residuals(x, parameters, statistics):
        return jax.vjp(lambda *given: train(*given, statistics)[0], x, parameters)[1]

    stored = set(jax.make_jaxpr(residuals)(*operands).jaxpr.outvars)
    assert [variable.aval.shape for variable in stored].count(X.shape) == 1


def test_only_nvidia_s_gpus_get_kernels(train_with_kernels):
    train, operands = train_with_kernels
    for platform in ("cpu", "cuda", "tpu"):
        text = lowered_text(train, *operands, platform=platform)
        assert ("gpu.triton" in text) == (platform == "cuda")


def test_an_exported_network_has_no_kernels(monkeypatch):
    """JAX refuses to export them, as no later version is bound to run them."""
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, "1")
    model = create_model(3, attention="C", stage_sizes=(1,), width=4)
    variables = drawn(model, jnp.zeros((1, 2, 16, 16, 3)))
    exported = export_classifier(model, variables, (2, 16, 16, 3), ("cuda",))
    assert "gpu.triton" not in exported.mlir_module()
