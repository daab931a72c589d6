"""Keys of a file that mean the same variable, and arrays that go when they are loaded."""

import gc
import tracemalloc
import weakref

import jax
import ml_dtypes
import numpy as np
import pytest
import torch

from aia_jax import create_model
from aia_jax.weights import WeightsError, load_matching
from aia_jax.weights.files import load_folder, save_folder
from aia_jax.weights.safetensors_files import write_safetensors
from aia_jax.weights.state_dict_files import read_state_dict_file
from tests.helpers import torch_nets

NET = {"width": 4, "stage_sizes": (1,), "stem": "small"}
MODEL = create_model(5, **NET)


@pytest.fixture(scope="module")
def fresh():
    shapes = jax.eval_shape(MODEL.init, jax.random.key(0), np.zeros((1, 2, 8, 8, 3), "f4"))
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, "f4"), shapes)


@pytest.fixture
def state_dict():
    rng = np.random.default_rng(0)
    shapes = torch_nets.key_shapes(5, **NET)
    return {key: rng.uniform(0.5, 1.5, shape).astype("f4") for key, shape in shapes.items()}


def test_a_copy_of_an_array_is_left_with_a_note(state_dict, fresh):
    state_dict["base_model.fc.weight"] = state_dict["new_fc.weight"].copy()
    variables, report = load_matching(state_dict, fresh, MODEL)
    np.testing.assert_array_equal(
        variables["params"]["head"]["kernel"], state_dict["new_fc.weight"].T
    )
    assert "base_model.fc.weight is a copy of new_fc.weight" in report.notes
    assert "note: base_model.fc.weight is a copy" in str(report)


@pytest.mark.parametrize("old_first", [True, False])
def test_of_two_heads_the_one_of_these_classes_is_taken(state_dict, fresh, old_first):
    old = {
        "base_model.fc.weight": np.ones((1000, 16), "f4"),
        "base_model.fc.bias": np.ones(1000, "f4"),
    }
    both = old | state_dict if old_first else state_dict | old
    variables, report = load_matching(both, fresh, MODEL)
    np.testing.assert_array_equal(variables["params"]["head"]["bias"], state_dict["new_fc.bias"])
    assert not report.fresh and (
        "the file has two heads; taken: new_fc.weight [5, 16], not base_model.fc.weight [1000, 16]"
        in report.notes
    )


def test_two_keys_of_different_numbers_are_an_error(state_dict, fresh):
    for key in ("new_fc.weight", "base_model.conv1.weight"):
        both = state_dict | {f"module.{key}": state_dict[key] + 1}
        with pytest.raises(WeightsError, match=f"twice: {key} and module.{key} mean the same"):
            load_matching(both, fresh, MODEL)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_consumed_arrays_go_and_halves_stay_halves(state_dict, fresh, dtype, tmp_path):
    """The file that is written in the end has the same float32 as without."""
    halves = {key: value.astype(dtype) for key, value in state_dict.items()}
    expected, report = load_matching(halves, fresh, MODEL)
    references = [weakref.ref(value) for value in halves.values()]
    variables, consumed_report = load_matching(halves, fresh, MODEL, consume=True, keep_half=True)
    gc.collect()
    assert halves == {} and not any(reference() is not None for reference in references)
    assert report == consumed_report
    kept = np.float32 if dtype == np.float64 else dtype
    assert all(leaf.dtype == kept for leaf in jax.tree.leaves(variables))
    contents = []
    for tree in (expected, variables):
        leaves = {f"p{k}": leaf for k, leaf in enumerate(jax.tree.leaves(tree))}
        with (tmp_path / "net.safetensors").open("wb") as file:
            write_safetensors(file, leaves, widen=True)
        contents.append((tmp_path / "net.safetensors").read_bytes())
    assert contents[0] == contents[1]


@pytest.mark.parametrize(("dtype", "most"), [("float16", 2.0), ("float32", 1.5)])
def test_a_conversion_needs_little_more_memory_than_its_file(tmp_path, dtype, most):
    """Of any type, and without what lies beside the weights."""
    fields = {"width": 64, "stage_sizes": (1, 1, 1, 1)}
    model, shapes = create_model(5, **fields), torch_nets.key_shapes(5, **fields)
    variables = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, 1, 32, 32, 3), "f4"))
    numbers = {k: torch.ones(shape, dtype=getattr(torch, dtype)) for k, shape in shapes.items()}
    torch.save({"state_dict": numbers}, tmp_path / "net.pth")
    size = (tmp_path / "net.pth").stat().st_size
    torch.save({"state_dict": numbers, "optimizer": [numbers["new_fc.bias"]]}, tmp_path / "net.pth")
    del numbers
    tracemalloc.start()
    try:
        file = read_state_dict_file(tmp_path / "net.pth")
        loaded, _ = load_matching(file.arrays, variables, model, consume=True, keep_half=True)
        save_folder(tmp_path / "out", loaded, {})
        assert tracemalloc.get_traced_memory()[1] < most * size
    finally:
        tracemalloc.stop()
    leaves = jax.tree.leaves(load_folder(tmp_path / "out")[0])
    assert all(leaf.dtype == np.float32 and (leaf == 1).all() for leaf in leaves)


def test_the_numbers_of_a_half_are_checked_as_those_of_a_single(state_dict, fresh):
    for dtype in (np.float16, ml_dtypes.bfloat16):
        halves = {key: value.astype(dtype) for key, value in state_dict.items()}
        halves["base_model.bn1.bias"][1] = np.nan
        halves["base_model.bn1.running_var"][1] = -1
        with pytest.raises(WeightsError) as caught:
            load_matching(halves, fresh, MODEL, consume=True, keep_half=True)
        assert "base_model.bn1.bias holds NaN" in str(caught.value)
        assert "base_model.bn1.running_var holds -1; a variance is never" in str(caught.value)


def test_an_array_that_one_number_stands_for_is_not_compared(state_dict, fresh):
    """A few bytes of a file may show a tensor of any size."""
    endless = np.broadcast_to(np.float32(1), (1 << 40,))
    both = state_dict | {"fc.bias": endless, "new_fc.bias": endless}
    tracemalloc.start()
    try:
        with pytest.raises(WeightsError, match="twice: "):
            load_matching(both, fresh, MODEL)
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()
