"""GST's weights: GST-Large against a PyTorch network, and the start from ImageNet's weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from aia_jax import create_model
from aia_jax.weights import WeightsError, from_torch, load_matching
from tests.helpers import torch_nets
from tests.helpers.quick_jit import quick_jit
from tests.helpers.torch_clip_nets import ClipNet

NARROW = {"width": 8, "stage_sizes": (1, 1)}
CLIP = (3, 8, 10, 3)


@pytest.mark.parametrize(("alpha", "beta"), [(4, 1), (2, 2)])
def test_logits_and_gradients_are_those_of_a_pytorch_network(alpha, beta):
    net = ClipNet(5, alpha=alpha, beta=beta, **NARROW)
    net = torch_nets.randomise(net, seed=0).float().double().train()
    x = np.random.default_rng(0).normal(size=(2, *CLIP))
    logits = net(torch.tensor(x))
    (logits**2).sum().backward()
    state_dict = {key: value.float().numpy() for key, value in net.state_dict().items()}
    fields = {"name": "gst", "alpha": alpha, "beta": beta, "stem": "small", "dropout": 0.0}
    with jax.enable_x64(True):
        model = create_model(5, **fields, **NARROW, dtype=jnp.float64)
        variables = jax.tree.map(lambda a: a.astype("f8"), from_torch(state_dict, model, CLIP))

        def loss(params):
            found, _ = model.apply(
                {**variables, "params": params}, x, train=True, mutable=["batch_stats"]
            )
            return (found**2).sum(), found

        gradient, found = quick_jit(jax.grad(loss, has_aux=True))(variables["params"])
    np.testing.assert_allclose(found, logits.detach(), rtol=1e-7)
    block = net.layer2[0]
    for ours, theirs in (("temporal_conv2", block.Tconv), ("conv1", block.conv1)):
        expected = theirs.weight.grad.numpy().transpose(2, 3, 4, 1, 0)
        found = np.asarray(gradient["stage2_block0"][ours]["kernel"]).reshape(expected.shape)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-7 * np.abs(expected).max())


def test_a_resnets_first_channels_start_the_spatial_convolutions():
    plain = torch_nets.randomise(torch_nets.VideoNet(3, stem="small", **NARROW), seed=1)
    source = {
        key.removeprefix("base_model."): value.float().numpy()
        for key, value in plain.state_dict().items()
    }
    model = create_model(5, name="gst", stem="small", **NARROW)
    fresh = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, *CLIP), "f4"))
    fresh = jax.tree.map(lambda leaf: np.zeros(leaf.shape, "f4"), fresh)
    variables, report = load_matching(source, fresh, model)
    temporal = {f"params/stage{stage}_block0/temporal_conv2/kernel" for stage in (1, 2)}
    assert set(report.fresh) == temporal | {"params/head/kernel", "params/head/bias"}
    conv2 = source["layer2.0.conv2.weight"][:12, :8].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(variables["params"]["stage2_block0"]["conv2"]["kernel"], conv2)
    with pytest.raises(WeightsError, match=r"missing: .*layer1\.0\.Tconv"):
        from_torch(source, model, CLIP)
