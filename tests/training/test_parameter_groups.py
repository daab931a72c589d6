"""Factors of groups and of layers: which parameter gets which, and patterns that do not fit."""

import jax
import jax.numpy as jnp
import pytest

from aia_jax.errors import UserError
from aia_jax.training.optimizer import make_optimizer
from aia_jax.training.parameter_groups import assign_groups, layer_factors, parse_groups
from tests.helpers.optim import optim_fields

PARAMS = {
    "stem": {"conv": {"kernel": jnp.zeros(2)}, "bn": {"scale": jnp.zeros(2)}},
    "head": {"bias": jnp.zeros(2)},
}


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (
            (("head/.*", {}),),
            r"covers 1 of 3 parameters; add a pattern for stem/bn/scale, stem/conv/kernel$",
        ),
        ((("head/bais", {}), (".*", {})), "no parameter is left for 'head/bais'"),
        (
            ((".*", {}), ("head/bias", {})),
            "no parameter is left for 'head/bias'; correct the pattern, move it up",
        ),
        ((("bias", {}), (".*/.*", {})), "no parameter is left for 'bias'"),
    ],
)
def test_groups_that_do_not_fit_are_named(groups, message):
    tx, _ = make_optimizer(optim_fields(groups=groups), 10, 32)
    with pytest.raises(UserError, match=message):
        tx.init(PARAMS)


def test_many_uncovered_parameters_are_counted():
    with pytest.raises(UserError, match=r"covers 0 of 20 .* and 12 more"):
        assign_groups({f"p{i}": jnp.zeros(1) for i in range(20)}, ())


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ((".*", {"wd": 0.0}), "sets 'wd'; a group may set 'lr' and 'decay'"),
        (("(", {}), "not a regular expression"),
    ],
)
def test_malformed_groups_are_named(group, message):
    with pytest.raises(UserError, match=message):
        parse_groups((group,))


def test_every_layer_has_a_power_of_the_factor_and_the_head_all_of_it():
    layers = ("stem/conv/.*", "stem/.*", "head/.*")  # the first that matches counts
    factors = layer_factors(PARAMS, layers, 0.5)
    assert factors == {
        "stem": {"conv": {"kernel": 0.25}, "bn": {"scale": 0.5}},
        "head": {"bias": 1},
    }
    assert set(jax.tree.leaves(layer_factors(PARAMS, (), 1.0))) == {1}


def test_a_network_that_does_not_say_its_layers_has_no_layer_wise_decay():
    tx, _ = make_optimizer(optim_fields(layer_decay=0.75), 10, 32, layers=("stem/.*",))
    with pytest.raises(UserError, match=r"optim\.layer_decay: found 0\.75, .* head/bias .* set 1"):
        tx.init(PARAMS)
