"""The gates of attention as maps: against PyTorch, and with which one a feature is refined."""

import numpy as np
import pytest
import torch

import aia_jax
from aia_jax import weights
from aia_jax.errors import UserError
from aia_jax.evaluation.gates import gate_maps
from tests.helpers import torch_nets

_FIELDS = {"stem": "small", "width": 8, "stage_sizes": (1, 1)}


def _nets(attention):
    theirs = torch_nets.randomise(torch_nets.VideoNet(3, attention=attention, **_FIELDS), 0)
    ours = aia_jax.create_model(3, 4, attention=attention, **_FIELDS)
    state = {key: value.float().numpy() for key, value in theirs.state_dict().items()}
    return theirs.float().eval(), ours, weights.from_torch(state, ours, (4, 12, 16, 3))


def test_gates_equal_those_of_pytorch_on_the_same_feature():
    theirs, ours, variables = _nets("CinST")
    clips = np.random.default_rng(0).normal(size=(2, 4, 12, 16, 3)).astype(np.float32)
    module = theirs.base_model.layer2[0].eft
    held = {}
    hook = module.register_forward_hook(lambda m, inputs, _: held.update(x=inputs[0]))
    theirs(torch.from_numpy(clips))
    hook.remove()
    x = held["x"]  # [B, T, C, H, W]
    guided = x * module.gate("C", x)
    expected = {"C": module.gate("C", x)} | {unit: module.gate(unit, guided) for unit in "THW"}

    maps = gate_maps(ours, variables, clips, "stage2")
    assert [(one.name, one.guides) for one in maps] == [
        ("C", True), ("T", False), ("H", False), ("W", False),
    ]  # fmt: skip
    for one in maps:
        gate = expected[one.name].expand(x.shape).mean(2).detach().numpy()
        assert one.module == "stage2_block0/attention/CinST"
        assert gate.std() > 1e-3
        np.testing.assert_allclose(one.values, gate, rtol=0, atol=1e-5)


def test_modules_that_are_not_there_are_named():
    _, ours, variables = _nets("C")
    clips = np.zeros((1, 4, 8, 8, 3), np.float32)
    assert len(gate_maps(ours, variables, clips)) == 2
    with pytest.raises(UserError, match=r"--module stage3: .* stage1_block0/attention/C, stage2_"):
        gate_maps(ours, variables, clips, "stage3")
    _, plain, variables = _nets("none")
    with pytest.raises(UserError, match=r"TSN, ResNet.* has no module with a gate"):
        gate_maps(plain, variables, clips)
