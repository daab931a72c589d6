"""Where a checkpoint's keys say that the shift is, and what is done with one that says another."""

import json

import numpy as np
import pytest
import torch

from aia_jax import create_model
from aia_jax.errors import UserError
from aia_jax.models.resnet.modeling import ResNet
from aia_jax.models.resnet.torch_names import compare_start, contradiction, shown_fields
from aia_jax.weights import WeightsError, from_torch, to_torch
from aia_jax.weights.recognise import recognise
from tests.helpers import torch_nets
from tests.helpers.paths import GOLDEN
from tests.helpers.quick_jit import quick_jit

LONG = {"width": 4, "stage_sizes": (2, 1, 23), "stem": "small", "fold_div": 4}
CLIP = (3, 8, 8, 3)
RELEASED = create_model(5, temporal="tsm", shift_blocks="tsm", **LONG)


@pytest.fixture(scope="module")
def released():
    """A narrow ResNet with a long third stage, in PyTorch, with the shift of TSM's own code."""
    net = torch_nets.VideoNet(5, **LONG)
    net = torch_nets.shift_as_released(net, CLIP[0], LONG["fold_div"])
    return torch_nets.randomise(net, seed=1).eval()


@pytest.fixture(scope="module")
def state_dict(released):
    return {key: value.float().numpy() for key, value in released.state_dict().items()}


def keys(wrapped, stages=(3, 4, 23, 3)):
    """Keys of first convolutions; `wrapped(stage, block)`, both from 0, have the shift."""
    return [
        f"module.base_model.layer{stage + 1}.{block}.conv1."
        + ("net.weight" if wrapped(stage, block) else "weight")
        for stage, blocks in enumerate(stages)
        for block in range(blocks)
    ]


def test_tsms_own_placement_gives_the_logits_of_pytorch_and_comes_back(released, state_dict):
    variables = from_torch(state_dict, RELEASED, CLIP)
    clips = np.random.default_rng(0).normal(size=(2, *CLIP)).astype("f4")
    expected = released.float()(torch.tensor(clips)).detach().numpy()
    found = quick_jit(RELEASED.apply)(variables, clips)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * expected.std())
    assert to_torch(variables, RELEASED, CLIP).keys() == state_dict.keys()

    aia = torch_nets.VideoNet(5, temporal="tsm", **LONG).eval()
    plain = {key.replace(".net.", "."): torch.tensor(v) for key, v in state_dict.items()}
    aia.load_state_dict(plain, strict=True)
    other = aia(torch.tensor(clips)).detach().numpy()
    assert np.abs(other - expected).max() > 0.02 * expected.std()


def test_keys_that_contradict_the_network_are_an_error_with_both_placements(state_dict):
    with pytest.raises(WeightsError) as caught:
        from_torch(state_dict, create_model(5, temporal="tsm", **LONG), CLIP)
    (problem,) = caught.value.problems
    tsn = contradiction(state_dict, create_model(5, **LONG))
    for line, ours in ((problem, "layer1.0,1 layer2.0 layer3.0,2,4"), (tsn, "none")):
        assert "file's network shifts the blocks layer1.0 layer2.0 layer3.0,2,4" in line
        assert f"this net shifts {ours}" in line and "layer1.0.conv1.net.weight" in line
        assert "The file's is model.temporal=tsm, model.shift_blocks=tsm" in line


def test_keys_without_net_and_a_stems_say_nothing(state_dict):
    plain = [key.replace(".net.", ".") for key in state_dict]
    plain = [key.replace("base_model.conv1.", "base_model.conv1.net.") for key in plain]
    for temporal, rule in (("tsn", "aia"), ("tsm", "aia"), ("tsm", "tsm")):
        model = create_model(5, temporal=temporal, shift_blocks=rule, **LONG)
        assert contradiction(plain, model) is None


@pytest.mark.parametrize(
    ("wrapped", "stages", "fields"),
    [
        (lambda stage, block: False, (3, 4, 23, 3), {}),
        (lambda stage, block: True, (3, 4, 6, 3), {"temporal": "tsm"}),
        (
            lambda stage, block: block % 2 == 0,
            (3, 4, 23, 3),
            {"temporal": "tsm", "shift_blocks": "tsm"},
        ),
        (
            lambda stage, block: stage != 2 or block % 2 == 0,
            (3, 4, 23, 3),
            {"temporal": "tsm", "shift_blocks": "aia"},
        ),
    ],
)
def test_the_fields_that_keys_show(wrapped, stages, fields):
    shown = shown_fields(keys(wrapped, stages))
    assert shown == fields


def test_the_golden_keys_of_the_aia_authors_show_no_shift():
    for shapes in json.loads((GOLDEN / "aia_state_dict_shapes.json").read_text()).values():
        assert shown_fields(shapes) == {}


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (keys(lambda stage, block: True), ["no network here shifts", "layer1.0,1,2 layer2.0"]),
        (["base_model.layer1.0.net.conv1.weight"], ["whole blocks", "shift_place=block of"]),
        (["module.base_model.layer2.net.0.conv1.net.weight"], ["temporal_pool"]),
        (
            ["layer2.0.block.conv1.net.weight", "layer2.1.nl.g.0.weight"],
            ["has non-local blocks behind layer2.1 (layer2.1.nl.g.0.weight)", "behind layer2.0"],
        ),
        (["layer2.0.conv2.net.weight"], ["somewhere else in its blocks: layer2.0.conv2.net"]),
    ],
)
def test_networks_that_are_not_here_are_refused_by_name(found, words):
    state_dict = {key: np.ones((4, 4, 1, 1), "f4") for key in found}
    for refused in (
        lambda: shown_fields(state_dict),
        lambda: recognise(state_dict),
        lambda: from_torch(state_dict, create_model(5, width=4, stage_sizes=(1,)), CLIP),
    ):
        with pytest.raises(UserError) as caught:
            refused()
        assert all(word in str(caught.value) for word in words), caught.value


def test_a_start_from_another_temporal_network_is_a_note():
    tsm, tsn = {"temporal": "tsm", "shift_blocks": "aia"}, {"temporal": "tsn"}
    model = ResNet(5, depth=101)
    assert compare_start(tsn, model) == compare_start({}, model) == []
    (note,) = compare_start(tsm, model)
    assert "trained with model.temporal=tsm; this run's is tsn" in note
    (note,) = compare_start(tsn, model.clone(temporal="tsm"))
    assert "trained with model.temporal=tsn" in note


def test_a_start_from_a_tsm_that_shifts_other_channels_or_blocks_is_refused():
    fields = {"temporal": "tsm", "shift_blocks": "tsm", "fold_div": 8}
    with pytest.raises(UserError, match=r"add --config\.model\.shift_blocks=tsm"):
        compare_start(fields, ResNet(5, depth=101, temporal="tsm"))
    assert compare_start(fields, ResNet(5, depth=50, temporal="tsm")) == [], "the same blocks"
    assert compare_start(fields, ResNet(5, 8, 101, "tsm", shift_blocks="tsm")) == []
    with pytest.raises(UserError, match=r"add --config\.model\.fold_div=8$"):
        compare_start(fields, ResNet(5, temporal="tsm", fold_div=4))


def test_a_network_with_another_placement_says_so():
    tsm = {"temporal": "tsm", "depth": 101}
    assert create_model(5, **tsm).describe() == "TSM, ResNet-101"
    text = "TSM (a shift in every other block), ResNet-101"
    assert create_model(5, **tsm, shift_blocks="tsm").describe() == text
    assert create_model(5, temporal="tsm", shift_blocks="tsm").describe() == "TSM, ResNet-50"
    with pytest.raises(ValueError, match="shift_blocks: found 'all', expected aia or tsm"):
        create_model(5, shift_blocks="all")
