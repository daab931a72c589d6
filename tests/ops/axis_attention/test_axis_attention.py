"""Axis attention in every form against its equations, written with XLA's own 3-D convolution."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aia_jax.ops import axis_attention
from aia_jax.ops.axis_attention import xla
from aia_jax.ops.axis_attention.units import EPSILON, UNITS
from aia_jax.ops.triton import axis_attention as triton
from tests.helpers.quick_jit import quick_jit

SHAPE = (4, 3, 5, 6, 8)  # no two sizes equal
CASES = {
    "training in two groups, ReLU": {
        "host": ("T", "H"),
        "guide": ("C",),
        "train": True,
        "bn_group_size": 2,
        "relu": True,
    },
    "evaluation": {"host": ("W",), "train": False},
}


def gate(z, unit, parameters, statistics, train, groups):
    """A unit's gate, of size 1 along the pooled axis, and the groups' means and variances."""
    axis, order = UNITS[unit].axis, UNITS[unit].kernel_order
    response = jax.lax.conv_general_dilated(
        jnp.stack([z.max(axis), z.mean(axis)], -1),
        parameters["conv"]["kernel"].transpose(*order, 3)[..., None],
        (1, 1, 1),
        "SAME",
        dimension_numbers=("NDHWC", "DHWIO", "NDHWC"),
        precision="highest",
    )[..., 0]
    split = response.reshape(groups, -1, *response.shape[1:])
    axes = tuple(range(1, split.ndim))
    mean, var = split.mean(axes, keepdims=True), split.var(axes, keepdims=True)
    seen = {"mean": mean.reshape(groups, 1), "var": var.reshape(groups, 1)}
    if not train:
        mean, var = statistics["bn"]["mean"], statistics["bn"]["var"]
    normalized = (split - mean) / jnp.sqrt(var + EPSILON)
    gates = jax.nn.sigmoid(normalized * parameters["bn"]["scale"] + parameters["bn"]["bias"])
    return jnp.expand_dims(gates.reshape(response.shape), axis), seen


def by_equations(x, parameters, statistics, *, host, guide=(), train, bn_group_size=0, relu=False):
    groups = x.shape[0] // bn_group_size if bn_group_size else 1
    seen = {}

    def gates(units, z):
        total = 0.0
        for unit in units:
            one, seen[unit] = gate(z, unit, parameters[unit], statistics[unit], train, groups)
            total = total + one / len(units)
        return total

    y = x * gates(host, x * gates(guide, x) if guide else x)
    if train:
        statistics = {
            unit: {
                "bn": {
                    name: 0.9 * statistics[unit]["bn"][name] + 0.1 * groups.mean(0)
                    for name, groups in seen[unit].items()
                }
            }
            for unit in seen
        }
    return jax.nn.relu(y) if relu else y, statistics


def operands(units):
    """A feature with equal maxima, and variables of units."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=SHAPE).round(1).astype("f4")
    draw = lambda low, high, *shape: rng.uniform(low, high, shape).astype("f4")  # noqa: E731
    parameters = {
        unit: {
            "conv": {"kernel": draw(-0.5, 0.5, 3, 3, 3, 2)},
            "bn": {"scale": draw(0.5, 1.5, 1), "bias": draw(-0.5, 0.5, 1)},
        }
        for unit in units
    }
    statistics = {
        unit: {"bn": {"mean": draw(-0.5, 0.5, 1), "var": draw(0.5, 1.5, 1)}} for unit in units
    }
    return x, parameters, statistics


def value_and_gradients(form, settings, x, parameters, statistics):
    def loss(x, parameters):
        y, new_statistics = form(x, parameters, statistics, **settings)
        return jnp.sin(3 * y).sum(), (y, new_statistics)

    return jax.value_and_grad(loss, (0, 1), has_aux=True)(x, parameters)


@functools.cache
def expected_results(case):
    settings = CASES[case]
    given = operands((*settings["host"], *settings.get("guide", ())))
    return quick_jit(functools.partial(value_and_gradients, by_equations, settings))(*given)


@pytest.fixture(params=["XLA on CPUs", "XLA elsewhere", "Triton's passes"])
def form(request, monkeypatch):
    """One of the forms; the last two as far as XLA's operations go."""
    jax.clear_caches()  # which form is taken is decided while tracing
    if request.param != "XLA on CPUs":
        monkeypatch.setattr(
            jax.lax, "platform_dependent", lambda *operands, default, **_: default(*operands)
        )
    yield (triton if request.param.startswith("Triton") else xla).axis_attention
    jax.clear_caches()


@pytest.mark.parametrize("case", CASES)
def test_value_statistics_and_gradients_follow_the_equations(case, form):
    settings = CASES[case]
    given = operands((*settings["host"], *settings.get("guide", ())))
    ours = quick_jit(functools.partial(value_and_gradients, form, settings))(*given)
    expected = expected_results(case)
    assert jax.tree.structure(ours) == jax.tree.structure(expected)
    atol = 2e-5 if form is triton.axis_attention else 1e-5
    for (path, a), b in zip(
        jax.tree_util.tree_leaves_with_path(ours), jax.tree.leaves(expected), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=atol, err_msg=jax.tree_util.keystr(path))


def test_clips_that_do_not_split_into_groups_are_refused():
    given = operands("C")
    with pytest.raises(ValueError, match="4 rows do not split into groups of 3"):
        axis_attention(*given, host=("C",), train=True, bn_group_size=3)


def test_half_precision_features_stay_so_and_statistics_do_not():
    x, parameters, statistics = operands("C")
    y, new = jax.eval_shape(
        functools.partial(axis_attention, host=("C",), train=True),
        x.astype(jnp.bfloat16),
        parameters,
        statistics,
    )
    assert (y.shape, y.dtype) == (SHAPE, jnp.bfloat16)
    assert {leaf.dtype for leaf in jax.tree.leaves(new)} == {jnp.dtype(jnp.float32)}
