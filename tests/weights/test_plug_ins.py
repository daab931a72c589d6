"""Weights of the modules of Table I: to PyTorch and back, and into other networks."""

import jax
import numpy as np
import pytest
import torch
from flax.traverse_util import flatten_dict

from aia_jax import create_model
from aia_jax.weights import WeightsError, from_torch, load_matching, load_own, to_torch
from aia_jax.weights.recognise import recognise
from tests.helpers import torch_nets
from tests.helpers.quick_jit import quick_jit

NARROW = {"width": 4, "stage_sizes": (1, 1), "fold_div": 4}
CLIP = (3, 16, 24, 3)


def numbers(attention, seed=0, **fields):
    """A state dict of a narrow network with a different value everywhere."""
    rng = np.random.default_rng(seed)
    shapes = torch_nets.key_shapes(5, **NARROW, attention=attention, **fields)
    return {
        key: rng.uniform(0.5, 1.5, shape).astype("f4")
        for key, shape in shapes.items()
        if not key.endswith("tracked")
    }


def fresh(model):
    shapes = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, *CLIP), "f4"))
    return jax.tree.map(lambda leaf: np.full(leaf.shape, 9, np.float32), shapes)


@pytest.mark.parametrize(
    ("temporal", "attention"),
    [
        ("tsm", "S3D-G->C"),
        ("tsn", "SE3D+GE3D-G"),
        ("tsm", "GE3D-DW133->GE3D-DW333"),
        ("tsn", "CBAM3D177+CBAM3D377"),
    ],
)
def test_a_network_loads_and_gives_the_logits_of_pytorch(temporal, attention):
    arguments = {**NARROW, "temporal": temporal, "attention": attention}
    oracle = torch_nets.randomise(torch_nets.VideoNet(5, **arguments), seed=1).float().eval()
    state_dict = {key: value.numpy() for key, value in oracle.state_dict().items()}
    model = create_model(5, **arguments)
    variables = from_torch(state_dict, model, CLIP)
    back = to_torch(variables, model, CLIP)
    assert set(back) == set(state_dict)
    for key, value in back.items():
        np.testing.assert_array_equal(value, 0 if key.endswith("tracked") else state_dict[key])
    oracle.load_state_dict({key: torch.from_numpy(v) for key, v in back.items()}, strict=True)

    clips = np.random.default_rng(0).normal(size=(2, *CLIP)).astype("f4")
    expected = oracle(torch.tensor(clips)).detach().numpy()
    found = quick_jit(model.apply)(variables, clips)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5 * expected.std())


@pytest.mark.parametrize(
    ("source", "attention"),
    [("none", "SE3D"), ("SE3D", "S3D-G"), ("CBAM3D177", "CBAM3D377"), ("C", "GE3D-DW133")],
)
def test_another_module_stays_fresh_and_the_backbone_loads(source, attention):
    model = create_model(5, **NARROW, attention=attention)
    variables, report = load_matching(numbers(source), fresh(model), model)
    names = flatten_dict(variables, sep="/")
    assert set(report.fresh) == {name for name in names if "/attention/" in name}
    for name, leaf in names.items():
        assert (leaf == 9).all() == ("/attention/" in name), name
    assert all("eft" in dropped.key for dropped in report.dropped)
    assert bool(report.dropped) == (source != "none")


def test_a_module_of_a_run_loads_whole_or_not_at_all():
    model = create_model(5, **NARROW, attention="GE3D-DW133")
    source = from_torch(numbers("GE3D-DW133"), model, CLIP)
    _, report = load_own(source, fresh(model), model)
    assert not report.fresh and not report.dropped
    del source["params"]["stage1_block0"]["attention"]["GE3D-DW133"]["conv2"]
    _, report = load_own(source, fresh(model), model)
    assert {name.split("/")[1] for name in report.fresh} == {"stage1_block0"}
    assert {dropped.reason for dropped in report.dropped} == {"of another attention module"}


def test_a_state_dict_says_which_modules_it_has():
    said = recognise(numbers("S3D-G->C"))
    assert said.endswith("5 classes in new_fc; eft1 is S3D-G, eft2 is C")
    assert recognise(numbers("GE3D-DW133")).endswith("eft is GE3D-DW133")


def test_the_weights_of_another_module_are_not_this_network_s():
    model = create_model(5, **NARROW, attention="CBAM3D377")
    with pytest.raises(WeightsError, match=r"eft\.CBAM3D377\.spatial_gate\.conv\.weight"):
        from_torch(numbers("CBAM3D177"), model, CLIP)
