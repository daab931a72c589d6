"""Numbers that no weights can have are refused by their key; zeros in a variance are a note."""

import jax.numpy as jnp
import numpy as np
import pytest

from aia_jax import create_model
from aia_jax.weights import WeightsError, from_torch, load_matching
from tests.helpers import torch_nets
from tests.helpers.tiny_variables import drawn

NET = {"width": 4, "stage_sizes": (1,), "fold_div": 4}
CLIP = (3, 16, 24, 3)
MODEL = create_model(5, **NET)


@pytest.fixture
def state_dict():
    rng = np.random.default_rng(0)
    return {
        key: rng.uniform(0.5, 1.5, shape).astype("f4")
        for key, shape in torch_nets.key_shapes(5, **NET).items()
    }


@pytest.mark.parametrize(
    ("key", "change", "problem"),
    [
        ("bn1.running_var", lambda v: v - 3, "values: base_model.bn1.running_var holds -2."),
        ("bn1.running_var", lambda v: v[:1], "shape: base_model.bn1.running_var is [1]"),
        ("bn1.bias", lambda v: np.asarray(v.mean()), "shape: base_model.bn1.bias is []"),
        ("bn1.bias", lambda v: v.astype("f8") * 1e300, "holds NaN or infinity, in float32"),
        ("bn1.weight", lambda v: v > 0, "dtype: base_model.bn1.weight is bool"),
        ("bn1.weight", lambda v: v + 1j, "dtype: base_model.bn1.weight is complex64"),
        ("conv1.weight", lambda v: v.astype(jnp.float8_e5m2), "conv1.weight is float8_e5m2"),
    ],
)
def test_numbers_that_are_no_weights_are_refused_by_key(state_dict, key, change, problem):
    state_dict[f"base_model.{key}"] = change(state_dict[f"base_model.{key}"])
    with pytest.raises(WeightsError) as caught:
        from_torch(state_dict, MODEL, CLIP)
    (found,) = caught.value.problems
    assert problem in found


def test_a_variance_of_zeros_is_a_note(state_dict):
    """A channel that a pruned network never uses has one, but seldom all channels."""
    fresh = drawn(MODEL, np.zeros((1, *CLIP), "f4"))
    state_dict["base_model.bn1.running_var"][0] = 0
    assert not load_matching(state_dict, fresh, MODEL)[1].notes
    state_dict["base_model.bn1.running_var"][:] = 0
    (note,) = load_matching(state_dict, fresh, MODEL)[1].notes
    assert note.startswith("base_model.bn1.running_var holds only zeros")
