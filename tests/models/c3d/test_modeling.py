"""C3D: against a PyTorch network, its counts, and its start from ImageNet's weights."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import torch

from aia_jax import create_model
from aia_jax.complexity import count
from aia_jax.models.c3d.torch_names import recognise
from aia_jax.weights import from_torch, load_matching, to_torch
from tests.helpers import torch_nets
from tests.helpers.quick_jit import quick_jit
from tests.helpers.torch_clip_nets import ClipNet

NARROW = {"width": 8, "stage_sizes": (1, 1)}
CLIP = (3, 8, 10, 3)


def as_arrays(net, dtype="f4"):
    return {key: value.numpy().astype(dtype) for key, value in net.state_dict().items()}


def network(**fields):
    return create_model(5, name="c3d", stem="small", dropout=0.0, **NARROW, **fields)


def test_logits_and_gradients_are_those_of_a_pytorch_network():
    net = torch_nets.randomise(ClipNet(5, **NARROW), seed=0).float().double()
    x = np.random.default_rng(0).normal(size=(2, *CLIP))
    logits = net.train()(torch.tensor(x))
    (logits**2).sum().backward()
    with jax.enable_x64(True):
        model = network(dtype=jnp.float64)
        state_dict = as_arrays(net)
        variables = jax.tree.map(lambda a: a.astype("f8"), from_torch(state_dict, model, CLIP))

        def loss(params):
            found, _ = model.apply(
                {**variables, "params": params}, x, train=True, mutable=["batch_stats"]
            )
            return (found**2).sum(), found

        gradient, found = quick_jit(jax.grad(loss, has_aux=True))(variables["params"])
    np.testing.assert_allclose(found, logits.detach(), rtol=1e-7)
    conv2 = net.layer2[0].conv2.weight.grad.numpy().transpose(2, 3, 4, 1, 0)
    ours = np.asarray(gradient["stage2_block0"]["conv2"]["kernel"])
    np.testing.assert_allclose(ours, conv2, rtol=0, atol=1e-7 * np.abs(conv2).max())

    model = network()
    back = to_torch(from_torch(state_dict, model, CLIP), model, CLIP)
    kept = {key: value for key, value in back.items() if not key.endswith("tracked")}
    for key, value in kept.items():  # torchvision's shapes, but for conv2
        np.testing.assert_array_equal(value, state_dict[key].reshape(value.shape), err_msg=key)
        assert value.ndim == (5 if "conv2" in key else min(state_dict[key].ndim, 4))
    words = "a C3D (3-D ResNet): ResNet (1-1 blocks), 5 classes in fc"
    assert recognise(back) == recognise(state_dict) == words


def test_parameters_and_operations_are_near_what_the_papers_print():
    found = count(create_model(174, name="c3d"))
    assert found.params == 46_499_054  # 46.5 million
    assert found.macs == 62_294_949_888  # 62.6 G, counted otherwise


def test_a_resnet_is_inflated():
    """In a clip of equal frames all but the first and the last have the ResNet's features."""
    one_block = {"width": 8, "stage_sizes": (1,), "stem": "small", "dropout": 0.0}
    plain = torch_nets.randomise(torch_nets.VideoNet(3, **one_block), seed=1)
    source = {key.removeprefix("base_model."): v for key, v in as_arrays(plain).items()}
    model, resnet = (create_model(5, name=name, **one_block) for name in ("c3d", "resnet"))
    x = np.random.default_rng(0).normal(size=(1, 1, 8, 8, 3)).astype("f4").repeat(4, 1)

    def zeros(net):
        shapes = jax.eval_shape(net.init, jax.random.key(0), x)
        return jax.tree.map(lambda leaf: np.zeros(leaf.shape, "f4"), shapes)

    variables, report = load_matching(source, zeros(model), model)
    assert set(report.fresh) == {"params/head/kernel", "params/head/bias"}  # of other classes
    expected, _ = load_matching(source, zeros(resnet), resnet)
    features = functools.partial(quick_jit, static_argnames="method")
    found = np.asarray(features(model.apply)(variables, x, method="features"))
    frames = np.asarray(features(resnet.apply)(expected, x, method="features"))
    np.testing.assert_allclose(found[:, 1:-1], frames[:, 1:-1], rtol=1e-4, atol=1e-5)
    assert np.abs(found[:, 0] - frames[:, 0]).max() > 0.01
