"""Grad-CAM against hooks on a PyTorch network with the same weights, and its bad input."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch

import aia_jax
from aia_jax import weights
from aia_jax.errors import UserError
from aia_jax.evaluation.gradcam import grad_cam, list_layers
from tests.helpers import torch_nets
from tests.helpers.quick_jit import quick_jit

_FIELDS = {
    "temporal": "tsm",
    "attention": "CinST",
    "stem": "small",
    "width": 8,
    "stage_sizes": (1, 1),
}


@pytest.fixture(scope="module")
def nets():
    """A PyTorch network, the same one here, its variables, and clips that are not square."""
    theirs = torch_nets.randomise(torch_nets.VideoNet(5, **_FIELDS), 0).eval()
    ours = aia_jax.create_model(5, 3, **_FIELDS)
    state = {key: value.float().numpy() for key, value in theirs.state_dict().items()}
    variables = weights.from_torch(state, ours, (3, 12, 16, 3))
    clips = np.random.default_rng(0).normal(size=(2, 3, 12, 16, 3))
    return theirs.float(), ours, variables, clips.astype(np.float32)


def _hooked_maps(net, module, clips, classes):
    """Grad-CAM as it is written for PyTorch: hooks, a backward pass, weights by frame."""
    held = {}
    forward = module.register_forward_hook(lambda m, i, output: held.update(output=output))
    backward = module.register_full_backward_hook(lambda m, i, grad: held.update(grad=grad[0]))
    net.zero_grad()
    logits = net(torch.from_numpy(clips))
    logits[torch.arange(len(classes)), torch.from_numpy(classes)].sum().backward()
    forward.remove()
    backward.remove()
    weights = held["grad"].mean((2, 3), keepdim=True)
    maps = torch.relu((weights * held["output"]).sum(1))
    return maps.detach().numpy().reshape(len(classes), -1, *maps.shape[-2:])


@pytest.mark.parametrize(
    ("layer", "place"),
    [
        ("", lambda net: net.base_model.layer2[0]),
        ("stage1_block0", lambda net: net.base_model.layer1[0]),
        ("stage2_block0/conv1", lambda net: net.base_model.layer2[0].conv1),
    ],
)
def test_maps_equal_those_of_pytorch_hooks(nets, layer, place):
    theirs, ours, variables, clips = nets
    classes = np.array([1, 4])
    expected = _hooked_maps(theirs, place(theirs), clips, classes)
    found = quick_jit(lambda v, x, k: grad_cam(ours, v, x, k, layer))(variables, clips, classes)
    assert expected.max() > 0
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5 * expected.max())


def test_the_last_layer_s_map_is_the_share_of_a_frame_in_the_logit(nets):
    _, ours, variables, clips = nets
    head = dict(variables["params"]["head"], bias=jnp.zeros(5))
    kernel = jnp.abs(head["kernel"])  # so that no map is cut off at 0
    params = variables["params"] | {"head": head | {"kernel": kernel}}
    changed = {**variables, "params": params}
    maps = grad_cam(ours, changed, clips, jnp.array([0, 0]))
    logits = ours.apply(changed, clips, train=False)
    np.testing.assert_allclose(maps.sum((1, 2, 3)), logits[:, 0], rtol=1e-5)


def test_the_default_layer_computes_the_features(nets):
    _, ours, variables, clips = nets
    layers = list_layers(ours, variables, clips)
    features = quick_jit(lambda v, x: ours.apply(v, x, method="features"))(variables, clips)
    assert ours.cam_layer == "stage2_block0" and (ours.cam_layer, features.shape) in layers
    names = [layer.name for layer in layers]
    assert len(names) == len(set(names))
    assert names[0] == "stem/conv"
    assert "stage1_block0/attention" in names


def test_an_unknown_layer_is_refused_with_the_list(nets):
    _, ours, variables, clips = nets
    with pytest.raises(UserError, match=r"--layer stage9: .*stem/conv, stem/bn, stem, stage1"):
        grad_cam(ours, variables, clips, jnp.array([0, 0]), "stage9")
