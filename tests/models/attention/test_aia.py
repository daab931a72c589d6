"""AIA's units, modules and their combinations against PyTorch's 3-D convolutions, in float64.

Compared are outputs, gradients and running statistics.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from aia_jax.models.attention.aia import AxisAttention
from aia_jax.models.attention.expression import Attention
from aia_jax.ops.axis_attention.units import UNITS
from tests.helpers import torch_nets

B, T, H, W, C = SHAPE = (2, 3, 4, 6, 5)  # no two sizes equal, T is not 8
MOMENTUM = 0.9
TOLERANCE = {"rtol": 1e-10, "atol": 1e-12}

# expression → our module's name → the reference's attribute. Written out, so that it does not share
# a mistake with the table of weights.
MODULES = {
    "C": {"C": "eft"},
    "ST": {"ST": "eft"},
    "CinST": {"CinST": "eft"},
    "STinC": {"STinC": "eft"},
    "C->ST": {"C": "eft1", "ST": "eft2"},
    "ST->C": {"ST": "eft1", "C": "eft2"},
    "C+ST": {"C": "eft1", "ST": "eft2"},
    "CinST->STinC": {"CinST": "eft1", "STinC": "eft2"},
    "STinC->CinST": {"STinC": "eft1", "CinST": "eft2"},
    "CinST+STinC": {"STinC": "eft1", "CinST": "eft2"},
}


@pytest.fixture(scope="module", autouse=True)
def fast_compilation():
    """Operations are compiled one by one, so that all tests share them; they need not be fast."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def data(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=SHAPE)


def to_torch(x: np.ndarray) -> torch.Tensor:
    """[B, T, H, W, C] → [B, T, C, H, W], a leaf that takes a gradient."""
    return torch.tensor(x).permute(0, 1, 4, 2, 3).contiguous().requires_grad_()


def from_torch(x: torch.Tensor) -> np.ndarray:
    return x.detach().permute(0, 1, 3, 4, 2).numpy()


def unit(conv: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor) -> dict:
    """One unit's parameters, or their gradients, as ours."""
    return {
        "conv": {"kernel": conv[0].permute(1, 2, 3, 0).numpy()},
        "bn": {"scale": scale.numpy(), "bias": bias.numpy()},
    }


def units(module: torch_nets.Attention) -> list[str]:
    return [unit for unit in "CTHW" if hasattr(module, f"{unit}_conv")]


def layers(module: torch_nets.Attention, name: str) -> tuple:
    return getattr(module, f"{name}_conv"), getattr(module, f"{name}_bn")


def params_of(module: torch_nets.Attention, gradients: bool = False) -> dict:
    read = (lambda p: p.grad) if gradients else (lambda p: p.detach().clone())
    return {
        u: unit(read(conv.weight), read(bn.weight), read(bn.bias))
        for u in units(module)
        for conv, bn in [layers(module, u)]
    }


def statistics_of(module: torch_nets.Attention) -> dict:
    return {
        u: {"bn": {"mean": bn.running_mean.clone().numpy(), "var": bn.running_var.clone().numpy()}}
        for u in units(module)
        for _, bn in [layers(module, u)]
    }


def agree(ours, theirs):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **TOLERANCE), ours, theirs)


def pooled_size(name: str) -> int:
    return B * T * H * W * C // SHAPE[UNITS[name].axis]


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_in_evaluation(name):
    oracle = torch_nets.randomise(torch_nets.Attention("C" if name == "C" else "ST"), seed=1).eval()
    variables = {
        "params": {name: params_of(oracle)[name]},
        "batch_stats": {name: statistics_of(oracle)[name]},
    }
    x = data(2)
    unit_alone = AxisAttention(host=(name,), bn_momentum=MOMENTUM)
    ours, _ = unit_alone.apply(variables, jnp.asarray(x), False, mutable=["batch_stats"])
    assert ours.dtype == jnp.float64
    np.testing.assert_allclose(ours, x * from_torch(oracle.gate(name, to_torch(x))), **TOLERANCE)


def module_and_oracle(expression, train):
    """Ours, its variables, the reference's, and the latter's modules by our names."""
    oracle = torch_nets.randomise(torch_nets.Expression(expression), seed=3).train(train)
    modules = {ours: getattr(oracle, eft) for ours, eft in MODULES[expression].items()}
    variables = {
        "params": {name: params_of(module) for name, module in modules.items()},
        "batch_stats": {name: statistics_of(module) for name, module in modules.items()},
    }
    return Attention(expression, MOMENTUM), variables, oracle, modules


def check_output_gradients_and_statistics(expression, train):
    attention, variables, oracle, modules = module_and_oracle(expression, train)
    cotangent = data(5)

    def loss(params, x):
        out, updated = attention.apply(
            {**variables, "params": params}, x, train, mutable=["batch_stats"]
        )
        return (out * cotangent).sum(), (out, updated["batch_stats"])

    gradients, (out, statistics) = jax.grad(loss, argnums=(0, 1), has_aux=True)(
        variables["params"], jnp.asarray(data(4))
    )

    x = to_torch(data(4))
    expected = oracle(x)
    (expected * to_torch(cotangent).detach()).sum().backward()
    agree(out, from_torch(expected))
    agree(gradients[1], from_torch(x.grad))
    agree(
        gradients[0], {name: params_of(module, gradients=True) for name, module in modules.items()}
    )

    expected_statistics = {name: statistics_of(module) for name, module in modules.items()}
    if train:
        for name, units_statistics in expected_statistics.items():
            for u, unit_statistics in units_statistics.items():
                # Torch keeps the unbiased variance, flax the biased one.
                old, n = variables["batch_stats"][name][u]["bn"]["var"], pooled_size(u)
                new = unit_statistics["bn"]["var"]
                unit_statistics["bn"]["var"] = MOMENTUM * old + (new - MOMENTUM * old) * (n - 1) / n
    agree(statistics, expected_statistics)


@pytest.mark.parametrize("expression", MODULES)
def test_modules_and_combinations_in_training(expression):
    check_output_gradients_and_statistics(expression, train=True)


@pytest.mark.parametrize("module", ["C", "ST", "CinST", "STinC"])
def test_modules_and_their_gradients_in_evaluation(module):
    check_output_gradients_and_statistics(module, train=False)


@pytest.mark.parametrize("expression", [name for name in MODULES if set("+>") & set(name)])
def test_combinations_in_evaluation(expression):
    attention, variables, oracle, _ = module_and_oracle(expression, train=False)
    out = attention.apply(variables, jnp.asarray(data(4)), False)
    agree(out, from_torch(oracle(to_torch(data(4)))))


def test_all_expressions_are_here():
    assert {"none", *MODULES} == set(torch_nets.EXPRESSIONS)
