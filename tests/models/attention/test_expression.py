"""Attention expressions: how they are read, where they stand, and how their modules are named."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aia_jax.models.attention import MODULES, SITES, AttentionModule
from aia_jax.models.attention.expression import (
    Attention,
    Combination,
    ModuleCall,
    module_calls,
    parse,
    site_of,
)
from tests.helpers.quick_jit import quick_jit
from tests.helpers.tiny_variables import drawn


class AddOne(nn.Module):
    """A module that is no AIA: it adds one, and shows the fields that it was given."""

    bn_momentum: float = 0.9
    bn_group_size: int = 0
    relu: bool = False

    @nn.compact
    def __call__(self, x, train):
        self.sow("intermediates", "fields", (self.bn_momentum, self.bn_group_size, self.relu))
        return nn.relu(x + 1) if self.relu else x + 1


@pytest.fixture
def add_one(monkeypatch):
    monkeypatch.setitem(MODULES, "AddOne", AttentionModule("after_conv3", AddOne))


def test_a_chain_of_averages_is_read_as_a_tree():
    assert parse("none") is None
    assert parse("CinST") == ModuleCall("CinST", "CinST")
    average = Combination("+", (ModuleCall("C", "C"), ModuleCall("ST", "ST")))
    assert parse("C + ST -> C") == Combination("->", (average, ModuleCall("C", "C_2")))


def test_modules_are_named_in_the_order_they_are_written():
    calls = module_calls("STinC+C->C->STinC")
    assert [call.name for call in calls] == ["STinC", "C", "C_2", "STinC_2"]
    assert module_calls("none") == []


@pytest.mark.parametrize(
    ("expression", "wrong"), [("CinSTT", "CinSTT"), ("C->", ""), ("C+CinC", "CinC"), ("c", "c")]
)
def test_an_unknown_module_is_refused_with_the_table_s_names(expression, wrong):
    with pytest.raises(ValueError) as error:
        parse(expression)
    assert str(error.value) == (
        f"attention={expression!r}: {wrong!r} is no attention module; use none, or "
        f"{', '.join(MODULES)} joined by -> or +"
    )


def test_a_hyphen_in_a_name_is_no_operator():
    """ "->" is read where it stands without blanks too."""
    gating, gate = ModuleCall("S3D-G", "S3D-G"), ModuleCall("C", "C")
    assert parse("S3D-G") == gating
    assert parse("S3D-G->C") == parse("S3D-G -> C") == Combination("->", (gating, gate))
    assert parse("C->S3D-G") == Combination("->", (gate, gating))
    assert [call.name for call in module_calls("GE3D-G->GE3D-DW133+GE3D-G")] == [
        "GE3D-G",
        "GE3D-DW133",
        "GE3D-G_2",
    ]
    with pytest.raises(ValueError, match="'S3D-' is no attention module"):
        parse("S3D-->C")


def test_an_expression_stands_where_its_modules_stand(add_one):
    assert {module: site_of(module) for module in ("none", "C", "ST->C", "AddOne+AddOne")} == {
        "none": None,
        "C": "after_conv2",
        "ST->C": "after_conv2",
        "AddOne+AddOne": "after_conv3",
    }
    assert {row.site for row in MODULES.values()} <= set(SITES)


@pytest.mark.parametrize("read", [parse, site_of, module_calls])
def test_modules_of_different_sites_cannot_be_joined(read, add_one):
    with pytest.raises(ValueError, match=r"CinST after_conv2, AddOne after_conv3"):
        read("CinST->AddOne")
    with pytest.raises(ValueError, match=r"S3D-G after_conv2, SE3D after_conv3"):
        read("S3D-G+SE3D")


def test_a_row_of_the_table_is_all_that_a_module_needs(add_one):
    """It is found by its name, gets the runner's fields, and only the last one applies the ReLU."""
    x = jnp.full((1, 2, 3, 4, 5), -4.0)
    attention = Attention("AddOne->AddOne", bn_momentum=0.5, bn_group_size=3, relu=True)
    y, updates = attention.apply({}, x, False, mutable=["intermediates"])
    np.testing.assert_array_equal(y, 0)
    assert updates["intermediates"] == {
        "AddOne": {"fields": ((0.5, 3, False),)},
        "AddOne_2": {"fields": ((0.5, 3, True),)},
    }
    average = Attention("AddOne+AddOne").apply({}, x, False)
    np.testing.assert_array_equal(average, x + 1)


def test_none_is_the_feature_and_its_relu():
    x = jnp.asarray([[[[[-1.0, 2.0]]]]])
    np.testing.assert_array_equal(Attention("none").apply({}, x, False), x)
    rectified = Attention("none", relu=True).apply({}, x, False)
    np.testing.assert_array_equal(rectified, nn.relu(x))


def test_variables_are_named_by_module_unit_and_layer():
    x = jnp.zeros((1, 2, 3, 4, 5))
    variables = jax.eval_shape(
        lambda key: Attention("STinC->STinC").init(key, x, False), jax.random.key(0)
    )
    shapes = {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape
        for path, leaf in jax.tree_util.tree_leaves_with_path(variables)
    }
    leaves = {
        "params": {"conv/kernel": (3, 3, 3, 2), "bn/scale": (1,), "bn/bias": (1,)},
        "batch_stats": {"bn/mean": (1,), "bn/var": (1,)},
    }
    assert shapes == {
        f"{collection}/{module}/{unit}/{leaf}": shape
        for collection, unit_leaves in leaves.items()
        for module in ("STinC", "STinC_2")
        for unit in "CTHW"
        for leaf, shape in unit_leaves.items()
    }


def test_kernels_start_as_the_reference_s():
    """Xavier for a host that has a guide, Kaiming for all others; BatchNorm does nothing."""
    x = jnp.zeros((1, 2, 3, 4, 5))
    several = [Attention("STinC+C").init(jax.random.key(n), x, False) for n in range(20)]
    variables = jax.tree.map(lambda *leaves: np.stack(leaves), *several)
    deviations = {
        f"{module}/{unit}": float(leaves["conv"]["kernel"].std())
        for module, units in variables["params"].items()
        for unit, leaves in units.items()
    }
    kaiming, xavier = (2 / 27) ** 0.5, (2 / 81) ** 0.5
    expected = dict.fromkeys(("STinC/T", "STinC/H", "STinC/W", "C/C"), kaiming)
    assert deviations == pytest.approx(expected | {"STinC/C": xavier}, rel=0.1)
    starts = {"scale": 1, "bias": 0, "mean": 0, "var": 1}
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
        if (name := path[-1].key) != "kernel":
            np.testing.assert_array_equal(leaf, starts[name])


@pytest.mark.parametrize("expression", ["C", "STinC"])
def test_a_nan_is_not_hidden_by_pools_or_gates(expression):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 4, 6, 6, 16)).astype("f4")
    x[0, 1, 2, 3, 4] = np.nan
    attention = Attention(expression)
    variables = drawn(attention, x, False)

    def in_training(x):
        y, _ = attention.apply(variables, x, True, mutable=["batch_stats"])
        return y.sum(), y

    y = quick_jit(lambda x: jax.grad(in_training, has_aux=True)(x)[1])(x)
    assert np.isnan(y).all()  # it is in the batch's statistics
    if expression == "C":
        seen = np.isnan(attention.apply(variables, x, False))
        expected = np.zeros(x.shape, bool)
        expected[0, :3, 1:4, 2:5] = True  # wherever the stencil sees the pooled plane's element
        np.testing.assert_array_equal(seen, expected)
