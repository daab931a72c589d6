"""Every network's key list is its own family's and nobody else's."""

import json

import jax
import numpy as np
import pytest

from aia_jax import create_model
from aia_jax.models import NETWORKS
from aia_jax.weights import to_torch
from aia_jax.weights.names import match_variables
from aia_jax.weights.recognise import other_network
from tests.helpers.paths import GOLDEN
from tests.helpers.tiny_variables import drawn


def golden(file):
    """Net → state dict of zeros that take no memory."""
    nets = json.loads((GOLDEN / file).read_text())
    if all(isinstance(shape, list) for shape in nets.values()):
        nets = {"": nets}
    return {
        f"{file} {net}": {
            key: np.broadcast_to(np.float32(0), tuple(shape)) for key, shape in shapes.items()
        }
        for net, shapes in nets.items()
    }


def c3d():
    model = create_model(5, name="c3d", width=8, stage_sizes=(1, 1))
    variables = drawn(model, np.zeros((1, 2, 16, 16, 3), "f4"))
    return {"c3d": to_torch(variables, model, (2, 16, 16, 3))}


FILES = {
    "resnet": ("aia_state_dict_shapes.json", "tsm_nl_state_dict_shapes.json"),
    "h2cn": ("h2cn_state_dict_shapes.json",),
    "vit": ("vit_state_dict_shapes.json",),
    "gst": ("gst_state_dict_shapes.json",),
}


@pytest.mark.parametrize("family", NETWORKS)
def test_only_the_own_family_knows_a_key_list(family):
    nets = c3d() if family == "c3d" else {}
    for file in FILES.get(family, ()):
        nets |= golden(file)
    assert nets
    for net, state_dict in nets.items():
        for other, network in NETWORKS.items():
            known = network.torch_names.recognise(state_dict)
            assert (known is not None) == (other == family), (net, other, known)


def test_weights_of_another_network_name_it_and_the_recipes():
    (h2cn,) = golden("h2cn_state_dict_shapes.json").values()
    model = create_model(5, name="gst")
    line = other_network(h2cn, model)
    for words in ("H2CN", "'h2cn'", "'gst' (config key model.name)", "starts from a ResNet-50"):
        assert words in line, line
    assert other_network(h2cn, create_model(5, name="h2cn")) is None
    assert other_network({"x": np.zeros(3, "f4")}, model) is None


@pytest.mark.parametrize("heads_show", [False, True])
def test_heads_that_nothing_shows_are_undecided(heads_show):
    nets = golden("vit_state_dict_shapes.json")
    vit = dict(next(state_dict for net, state_dict in nets.items() if net.endswith(" ViT")))
    names = NETWORKS["vit"].torch_names
    if heads_show:  # ViT-B's heads are known by its name
        vit = to_shapes(create_model(5, name="vit", image_size=32))
    assert ("heads" in names.undecided_fields(vit)) == (not heads_show)


def to_shapes(model):
    """The state dict of a network as its authors name it, of zeros that take no memory."""
    clips = jax.ShapeDtypeStruct((1, 1, 32, 32, 3), "float32")
    shapes = jax.eval_shape(model.init, jax.random.key(0), clips)
    targets = match_variables(shapes, model)
    return {
        NETWORKS["vit"].torch_names.reference_key(key, model): np.broadcast_to(
            np.float32(0), target.source_shape
        )
        for key, target in targets.items()
    }
