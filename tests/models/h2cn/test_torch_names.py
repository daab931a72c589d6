"""Which files H2CN starts from, and what it takes of them."""

import json
import re

import numpy as np
import pytest

from aia_jax import create_model
from aia_jax.models.h2cn import torch_names
from aia_jax.models.resnet import torch_names as resnet_torch_names
from aia_jax.weights import WeightsError, from_torch, load_matching, to_torch
from aia_jax.weights.recognise import recognise
from tests.helpers.paths import GOLDEN
from tests.helpers.tiny_variables import drawn

NARROW = {"width": 8, "stage_sizes": (1,)}
SHAPES = json.loads((GOLDEN / "h2cn_state_dict_shapes.json").read_text())


@pytest.fixture(scope="module")
def h2cn():
    """A narrow network with weights, and a state dict of the authors' as DataParallel saves it."""
    model = create_model(6, name="h2cn", **NARROW)
    variables = drawn(model, np.zeros((1, 5, 32, 32, 3), "f4"))
    state_dict = {f"module.{key}": value for key, value in to_torch(variables, model).items()}
    return model, variables, state_dict


@pytest.fixture(scope="module")
def resnet():
    """A state dict with torchvision's names, of the same size."""
    model = create_model(10, dropout=0.0, **NARROW)
    state_dict = to_torch(drawn(model, np.zeros((1, 1, 32, 32, 3), "f4")), model)
    return {key.removeprefix("base_model."): value for key, value in state_dict.items()}


def test_the_authors_checkpoint_is_told_from_a_resnets(h2cn, resnet):
    golden = {f"module.{key}": np.broadcast_to(np.float32(0), s) for key, s in SHAPES.items()}
    expected = r"an H2CN of its authors.*ResNet-50.*174 classes in module\.new_fc"
    assert re.search(expected, recognise(golden))
    assert resnet_torch_names.recognise(golden) is None
    assert torch_names.recognise(resnet) is None
    assert torch_names.recognise(h2cn[2]).startswith("an H2CN")


def test_an_own_head_stays_fresh_and_the_unused_convolution_is_named(h2cn):
    _, variables, state_dict = h2cn
    other = create_model(3, name="h2cn", **NARROW)
    loaded, report = load_matching(
        state_dict, drawn(other, np.zeros((1, 5, 32, 32, 3), "f4")), other
    )
    assert set(report.fresh) == {"params/head/kernel", "params/head/bias"}
    gate = loaded["params"]["stage1_block0"]["gate"]
    for name, part in variables["params"]["stage1_block0"]["gate"].items():
        for leaf, value in part.items():
            np.testing.assert_array_equal(gate[name][leaf], value)
    assert "conv1_temp.weight" in str(report) and "no network uses" in str(report)


def test_a_resnet_fills_all_but_biases_motion_path_gates_and_head(h2cn, resnet):
    model, fresh, _ = h2cn
    loaded, report = load_matching(resnet, fresh, model)
    parts = {"/".join(name.split("/")[1:3]) for name in report.fresh}
    hourglasses = {f"motion/{name}" for name in ("hourglass1", "hourglass2", "bn1", "bn2")}
    conv_biases = {"stem/conv", "stage1_block0/shortcut_conv"}
    others = {"motion/stem", "stage1_block0/gate", "head/kernel", "head/bias"}
    assert parts == hourglasses | conv_biases | others
    assert "params/motion/stem/conv/kernel" not in report.fresh
    assert not any(name.endswith("conv/kernel") for name in report.fresh)

    kernel = loaded["params"]["motion"]["stem"]["conv"]["kernel"]  # [7, 7, 9, 8]
    mean = resnet["conv1.weight"].mean(1).transpose(1, 2, 0)[:, :, None]
    np.testing.assert_allclose(kernel, np.broadcast_to(mean, kernel.shape), rtol=1e-6)
    assert "mean over colours of conv1.weight" in str(report)


def test_a_resnet_is_no_whole_h2cn_and_an_h2cn_no_resnet(h2cn, resnet):
    model, _, state_dict = h2cn
    with pytest.raises(WeightsError, match=r"missing: base_model\.fhgc1\.0\.spaAgg\.weight"):
        from_torch(resnet, model)
    plain = create_model(6, **NARROW)
    with pytest.raises(WeightsError, match=r"mtdin|fhgc"):
        from_torch(state_dict, plain)


def test_the_head_has_the_name_that_dropout_gives_it(h2cn):
    _, variables, state_dict = h2cn
    assert "module.new_fc.weight" in state_dict
    without = create_model(6, name="h2cn", dropout=0.0, **NARROW)
    assert "base_model.fc.weight" in to_torch(variables, without)
