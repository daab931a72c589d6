"""Non-local blocks as a user meets them: where they are, how they start, weights in and out."""

import functools

import jax
import numpy as np
import pytest

from aia_jax import create_model
from aia_jax.errors import UserError
from aia_jax.models.resnet.non_local import NonLocal
from aia_jax.models.resnet.torch_names import contradiction, recognise, shown_fields
from aia_jax.weights import WeightsError, from_torch, load_matching, to_torch
from tests.helpers.tiny_variables import drawn

NARROW = {"width": 8, "stage_sizes": (1, 3, 2), "stem": "small", "dropout": 0.0}
LONG = {f"stage{stage}_block{n}" for stage, n in ((2, 0), (2, 2), (3, 0), (3, 2), (3, 4))}
CLIP = (2, 8, 8, 3)


def clips(*shape):
    return np.random.default_rng(0).normal(size=(*shape, 3)).astype("f4")


def blocks_with(part, model):
    shapes = jax.eval_shape(model.init, jax.random.key(0), clips(1, 2, 32, 32))
    return {name for name, block in shapes["params"].items() if part in block}


@functools.cache
def network():
    model = create_model(5, temporal="tsm", non_local=True, **NARROW)
    return model, jax.device_get(drawn(model, clips(1, *CLIP[:-1])))


@pytest.mark.parametrize(
    ("fields", "blocks"),
    [
        (NARROW, {"stage2_block0", "stage2_block2", "stage3_block0"}),
        ({"depth": 101}, LONG),
    ],
)
def test_every_other_bottleneck_of_two_stages_has_a_block(fields, blocks):
    assert blocks_with("non_local", create_model(5, non_local=True, **fields)) == blocks
    assert blocks_with("non_local", create_model(5, **fields)) == set()


def test_a_fresh_block_does_nothing():
    x = np.random.default_rng(0).normal(size=(1, 2, 4, 5, 32)).astype("f4")
    variables = NonLocal().init(jax.random.key(0), x, False)
    np.testing.assert_array_equal(NonLocal().apply(variables, x, False), x)
    started = variables["params"]
    assert not started["out_bn"]["scale"].any() and not started["out_bn"]["bias"].any()
    for name in ("theta", "phi", "g", "out"):  # as torch's Conv3d: uniform, by fan-in
        kernel, bias = started[name]["kernel"], started[name]["bias"]
        bound = kernel.shape[2] ** -0.5
        assert 0.9 * bound < abs(kernel).max() <= bound and 0 < abs(bias).max() <= bound


def test_a_map_that_cannot_be_pooled_is_an_error_that_says_so():
    model = create_model(5, non_local=True, **NARROW)
    with pytest.raises(UserError, match=r"pools maps by 2x2.*1x2 positions.*larger frames"):
        jax.eval_shape(model.init, jax.random.key(0), clips(1, 2, 4, 8))


def test_keys_are_those_of_tsms_code_and_come_back():
    model, variables = network()
    state_dict = to_torch(variables, model, CLIP)
    assert state_dict["base_model.layer2.0.nl.g.0.weight"].shape == (32, 64, 1, 1, 1)
    assert "base_model.layer2.0.block.conv1.net.weight" in state_dict
    assert "base_model.layer2.1.conv1.net.weight" in state_dict
    jax.tree.map(np.testing.assert_array_equal, from_torch(state_dict, model, CLIP), variables)

    tsn = model.clone(temporal="tsn")
    of_tsn = to_torch(variables, tsn, CLIP)
    assert of_tsn.keys() == {key.replace(".net.", ".") for key in state_dict}
    assert "mit-han-lab's TSN with non-local blocks" in recognise(of_tsn)
    assert "mit-han-lab's TSM with non-local blocks" in recognise(state_dict)
    assert shown_fields(of_tsn) == {"non_local": True}
    assert shown_fields(state_dict) == {"temporal": "tsm", "non_local": True}
    assert contradiction(of_tsn, tsn) is contradiction(state_dict, model) is None


def test_weights_with_blocks_do_not_load_into_a_network_without():
    model, variables = network()
    plain = model.clone(non_local=False)
    state_dict = to_torch(variables, model, CLIP)
    words = r"by its keys \(base_model\.layer2\.0\.nl\..*add --config\.model\.non_local=true"
    with pytest.raises(WeightsError, match=words):
        from_torch(state_dict, plain, CLIP)
    fresh = jax.eval_shape(plain.init, jax.random.key(0), clips(1, *CLIP[:-1]))
    with pytest.raises(WeightsError, match=words):
        load_matching(state_dict, fresh, plain)
    elsewhere = [key.replace("layer3.0.nl", "layer3.1.nl") for key in state_dict]
    with pytest.raises(UserError, match=r"behind layer2\.0, layer2\.2, layer3\.1 \(.*layer3\.0$"):
        shown_fields(elsewhere)


def test_blocks_start_fresh_from_a_network_without_them():
    model, variables = network()
    plain = model.clone(non_local=False)
    source = {
        key: value for key, value in to_torch(variables, model, CLIP).items() if ".nl." not in key
    }
    source = {key.replace(".block.", ".").replace(".net.", "."): v for key, v in source.items()}
    from_torch(source, plain, CLIP)  # the network without blocks, whole
    fresh = jax.tree.map(np.zeros_like, variables)
    loaded, report = load_matching(source, fresh, model)
    assert {name.split("/")[2] for name in report.fresh} == {"non_local"}
    block, expected = (tree["params"]["stage2_block0"] for tree in (loaded, variables))
    assert not any(leaf.any() for leaf in jax.tree.leaves(block["non_local"]))
    np.testing.assert_array_equal(block["conv2"]["kernel"], expected["conv2"]["kernel"])
