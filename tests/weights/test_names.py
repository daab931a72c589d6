"""A network's `torch_names.py` is all that loading and recognising its weights needs."""

from types import ModuleType

import flax.linen as nn
import jax
import numpy as np
import pytest

from aia_jax.errors import UserError
from aia_jax.models import NETWORKS, Network
from aia_jax.weights import WeightsError, from_torch, load_matching, load_own, to_torch
from aia_jax.weights.names import match_variables
from aia_jax.weights.recognise import recognise

CLIP = (1, 1, 1, 3)


class Linear(nn.Module):
    """Two layers on a clip's mean colour, the first with a gate that a source may lack."""

    num_classes: int

    def describe(self):
        return "a linear network"

    @nn.compact
    def __call__(self, clips, train=False):
        x = nn.Dense(4, name="layer")(clips.mean((1, 2, 3)))
        x = x * self.param("gate", nn.initializers.ones, (4,))
        return nn.Dense(self.num_classes, use_bias=False, name="head")(x)


def make_names() -> ModuleType:
    """The `torch_names` of `Linear`: keys begin with "linear.", and one array is dropped."""
    names = ModuleType("torch_names")
    names.SIZE_FIELDS = "model.layers"
    names.table = lambda model: [
        ("params/layer/kernel", "0.weight", (1, 0)),
        ("params/layer/bias", "0.bias", (0,)),
        ("params/gate", "gate", (0,)),
        ("params/head/kernel", "1.weight", (1, 0)),
    ]
    names.entries = lambda state_dict, model: [
        (key.removeprefix("linear."), key, value)
        for key, value in state_dict.items()
        if key != "linear.never_used"
    ]
    names.reference_key = lambda key, model: f"linear.{key}"
    names.is_backbone = lambda name: name.startswith(("0.", "params/layer/"))
    names.optional_module = lambda name: "gate" if name.endswith("gate") else None
    names.describe_size = lambda names: None
    names.pretrained_source = lambda model: "another linear network"
    names.shown_fields = lambda keys: {}
    names.contradiction = lambda keys, model: None
    names.compare_start = lambda fields, model: []

    def recognise(state_dict):
        if "linear.squared" in state_dict:
            raise UserError("a quadratic network")
        return "a linear network" if "linear.0.weight" in state_dict else None

    names.recognise = recognise
    return names


@pytest.fixture
def names(monkeypatch):
    """Adds the row "linear" to the table of networks."""
    names = make_names()
    monkeypatch.setitem(NETWORKS, "linear", Network(Linear, names))
    return names


def make_state_dict(classes=3):
    shapes = {"0.weight": (4, 3), "0.bias": (4,), "gate": (4,), "1.weight": (classes, 4)}
    rng = np.random.default_rng(0)
    return {f"linear.{key}": rng.normal(size=shape).astype("f4") for key, shape in shapes.items()}


def fresh(model):
    return model.init(jax.random.key(0), np.zeros((1, *CLIP), "f4"))


def test_every_network_offers_the_same_functions():
    functions = {name for name in vars(make_names()) if not name.startswith("_")}
    for name, network in NETWORKS.items():
        assert functions <= set(vars(network.torch_names)), name


def test_another_network_needs_no_change_elsewhere(names):
    model, state_dict = Linear(3), make_state_dict()
    variables = from_torch(state_dict | {"linear.never_used": np.ones(2, "f4")}, model, CLIP)
    layer = variables["params"]["layer"]["kernel"]
    np.testing.assert_array_equal(layer, state_dict["linear.0.weight"].T)
    back = to_torch(variables, model, CLIP)
    jax.tree.map(np.testing.assert_array_equal, back, state_dict)

    del state_dict["linear.gate"]
    other = Linear(5)
    for load, source in ((load_matching, state_dict), (load_own, variables)):
        after, report = load(source, fresh(other), other)
        np.testing.assert_array_equal(after["params"]["layer"]["kernel"], layer)
        assert set(report.fresh) == {"params/head/kernel"} | (
            {"params/gate"} if source is state_dict else set()
        )
    with pytest.raises(WeightsError, match=r"linear\.more"):
        from_torch(state_dict | {"linear.more": np.ones(2, "f4")}, model, CLIP)


def test_a_state_dict_is_shown_to_every_network(names):
    assert recognise(make_state_dict()) == "a linear network"
    with pytest.raises(WeightsError, match="a quadratic network"):
        recognise({"linear.squared": np.ones(2, "f4")})
    resnet = {"conv1.0.weight": np.ones((4, 3, 3, 3), "f4")}
    with pytest.raises(WeightsError, match="stem of several convolutions"):
        recognise(resnet)
    # One network refuses it, another knows it.
    assert recognise(resnet | make_state_dict()) == "a linear network"


def test_each_variable_needs_a_key_of_its_own(names):
    model = Linear(3)
    variables = fresh(model)
    rows = names.table(model)
    for wrong in (rows[1:], [*rows, ("params/g.*", "g", (0,))], [*rows[:2], *rows[3:]]):
        names.table = lambda model, wrong=wrong: wrong
        with pytest.raises(WeightsError, match="has no name of its own"):
            match_variables(variables, model)
    names.table = lambda model: [(pattern, "0.bias", axes) for pattern, _, axes in rows]
    with pytest.raises(WeightsError, match="has no name of its own"):
        match_variables(variables, model)
