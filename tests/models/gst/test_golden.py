"""Logits and two training steps of GST's own code, on its weights, through `from_torch`."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aia_jax import create_model
from aia_jax.complexity import count
from aia_jax.weights import from_torch, to_torch
from tests.golden import recipe
from tests.helpers.golden_steps import golden_of, largest_errors, tensor, with_head_of
from tests.helpers.paths import GOLDEN
from tests.helpers.quick_jit import quick_jit

SHAPES = json.loads((GOLDEN / "gst_state_dict_shapes.json").read_text())
NETS = {"GST alpha4 beta2": {}, "GST-Large alpha4 beta1": {"beta": 1}}


def test_logits_agree_with_the_reference_and_the_weights_go_back_to_it():
    net, size = "GST alpha4 beta2", "1x4x64x96"
    model = create_model(174, name="gst")
    state_dict = {key: tensor(key, tuple(shape)) for key, shape in SHAPES[net].items()}
    variables = from_torch(state_dict, model)
    logits = np.asarray(quick_jit(model.apply)(variables, recipe.clips(*map(int, size.split("x")))))
    golden = dict(np.load(GOLDEN / "gst_logits.npz"))[f"{net}|{size}"]
    assert logits.dtype == np.float32
    error = np.abs(logits - golden).max() / golden.std()
    print(f"logits: {error:.1e}")  # pytest -rP shows it
    assert error < 1e-5  # 9e-7 is reached; the bar is 1e-3
    back = to_torch(variables, model)
    assert set(back) == set(state_dict)
    for key, value in back.items():
        np.testing.assert_array_equal(value, state_dict[key], err_msg=key)


@pytest.mark.parametrize("net", NETS)
def test_parameters_and_operations_are_those_of_the_reference(net):
    golden = json.loads((GOLDEN / "gst_counts.json").read_text())[net]
    model = create_model(174, name="gst", **NETS[net])
    for frames in (8, 16):
        size = f"{frames}x224x224"
        if f"{size} macs" not in golden:
            continue
        found = count(model, (frames, 224, 224, 3))
        assert found.params == golden["parameters"]
        assert found.macs == golden[f"{size} macs"]
        assert found.norm_elements == golden[f"{size} bn"]


def test_two_training_steps_equal_the_reference(record_property):
    net = "GST alpha4 beta2"
    shapes = with_head_of(SHAPES[net], 10)
    golden = golden_of(GOLDEN / "gst_train.npz", f"{net}|2x4x64x64")
    with jax.enable_x64(True):
        model = create_model(10, 4, name="gst", dropout=0.0, dtype=jnp.float64)
        state_dict = {key: tensor(key, shape) for key, shape in shapes.items()}
        errors = largest_errors(model, state_dict, golden, 3e-4, lambda key: 2 * 4 * 8 * 8)
    record_property("largest relative error", max(errors.values()))
    assert len(errors) == 74
    assert max(errors.values()) < 1e-9, sorted(errors.items(), key=lambda e: -e[1])[:8]  # 1e-6
