"""H2CN as a user meets it: its parts against PyTorch's own layers, options, wrong clips."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from aia_jax import complexity, create_model
from aia_jax.errors import UserError
from aia_jax.models.fields import FieldError
from aia_jax.models.h2cn.gate import mean_of_convolution
from aia_jax.models.h2cn.hourglass import join_frames
from aia_jax.training.parameter_groups import assign_groups, parse_groups
from tests.helpers.quick_jit import quick_jit
from tests.helpers.tiny_variables import drawn

NARROW = {"name": "h2cn", "width": 8, "stage_sizes": (1,), "stem": "small"}


def clips(batch, segments, height=8, width=12):
    shape = (batch, segments * 5, height, width, 3)
    return np.random.default_rng(0).normal(size=shape).astype("f4")


@functools.cache
def network(**fields):
    """A narrow network of 4 classes, and variables for it."""
    model = create_model(4, **{**NARROW, **fields})
    return model, drawn(model, clips(1, 2))


@pytest.mark.parametrize("expansion", [1, 3])
def test_an_hourglass_is_three_depthwise_convolutions(expansion):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 7, 6, 5, 3))
    spatial, temporal = rng.normal(size=(3, 3, 3)), rng.normal(size=(3, 3 * expansion))

    frames = torch.tensor(x.transpose(0, 3, 4, 1, 2).reshape(10, 3, 7, 6))
    kernel = torch.tensor(spatial.transpose(2, 0, 1)[:, None])
    around = torch.nn.functional.conv2d(frames, kernel, padding=2, dilation=2, groups=3)
    around = around.numpy().reshape(2, 5, 3, 7, 6).transpose(0, 3, 4, 1, 2)
    before, now, after = around[..., :-2, :], x[..., 1:-1, :], around[..., 2:, :]
    terms = zip(temporal, (before, now, after), strict=True)
    expected = sum(w * np.repeat(term, expansion, -1) for w, term in terms)
    with jax.enable_x64(True):
        np.testing.assert_allclose(join_frames(x, spatial, temporal), expected, rtol=1e-12)


@pytest.mark.parametrize("size", [(5, 4), (1, 3), (1, 1)])
def test_the_mean_of_a_convolution_needs_no_convolution(size):
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(3, *size, 2)), rng.normal(size=(3, 3, 2))
    maps, weights = torch.tensor(x.transpose(0, 3, 1, 2)), torch.tensor(kernel.transpose(2, 0, 1))
    expected = torch.nn.functional.conv2d(maps, weights[:, None], padding=1, groups=2).mean((2, 3))
    with jax.enable_x64(True):
        found = mean_of_convolution(x, kernel)
    np.testing.assert_allclose(found[:, 0, 0], expected, rtol=1e-12, atol=1e-14)


def test_the_motion_path_starts_as_a_difference_and_as_the_mean_over_colours():
    model = create_model(3, **NARROW)
    params = quick_jit(model.init)(jax.random.key(0), clips(1, 1))["params"]
    first = params["motion"]["hourglass1"]["temporal"]["kernel"]
    np.testing.assert_array_equal(first[:, 0, 0], np.repeat([[0], [1], [-1]], 3, 1))
    kernel = np.asarray(params["motion"]["stem"]["conv"]["kernel"])
    assert kernel.shape == (3, 3, 9, 8) and kernel.std() > 0
    np.testing.assert_array_equal(kernel, np.broadcast_to(kernel[:, :, :1], kernel.shape))
    # PyTorch's convolutions start with biases within 1/√fan-in: 3·3·3 and 8.
    for part, bound in (("stem", 27), ("stage1_block0", 8)):
        conv = params[part]["conv" if part == "stem" else "shortcut_conv"]
        largest = np.abs(conv["bias"]).max()
        assert 0.5 * bound**-0.5 < largest < bound**-0.5


@pytest.mark.parametrize("order", ["frames of a segment", "segments", "other frames of a segment"])
def test_it_sees_the_order_of_frames_and_of_segments(order):
    """The stem sees the middle frames only, which are the same here."""
    model, variables = network()
    x = clips(1, 3).reshape(1, 3, 5, 8, 12, 3)
    y = x.copy()
    if order == "frames of a segment":
        y = y[:, :, ::-1]
    elif order == "segments":
        y = y[:, ::-1]
    else:
        y[:, :, 0] = 0
    logits = [quick_jit(model.apply)(variables, v.reshape(1, 15, 8, 12, 3)) for v in (x, y)]
    assert np.abs(logits[0] - logits[1]).max() > 1e-3 * np.abs(logits[0]).max()


def test_shapes_and_types_of_what_it_gives():
    model, variables = network(dtype=jnp.bfloat16, stage_sizes=(1, 1), stem="imagenet")
    x = clips(2, 3, 33, 47)
    logits = jax.eval_shape(model.apply, variables, x)
    features = jax.eval_shape(functools.partial(model.apply, method="features"), variables, x)
    embedding = jax.eval_shape(functools.partial(model.apply, method="embed"), variables, x)
    assert (logits.shape, logits.dtype) == ((2, 4), jnp.float32)
    assert (features.shape, features.dtype) == ((2, 3, 5, 6, 64), jnp.bfloat16)
    assert (embedding.shape, embedding.dtype) == ((2, 3, 64), jnp.float32)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(variables)} == {"float32"}
    assert model.cam_layer == "stage2_block0" and model.segment_frames == 5


def test_bfloat16_changes_little():
    model, variables = network()
    x = clips(2, 2)
    expected = quick_jit(model.apply)(variables, x)
    found = quick_jit(model.clone(dtype=jnp.bfloat16).apply)(variables, x)
    assert np.abs(found - expected).max() < 0.05 * np.abs(expected).max()


def test_remat_changes_no_gradient_and_partial_batch_norm_spares_what_starts_fresh():
    model, variables = network(dropout=0.0)
    x = clips(2, 2)

    def gradients(model):
        def loss(params):
            apply = functools.partial(model.apply, train=True, mutable=["batch_stats"])
            logits, updated = apply({**variables, "params": params}, x)
            return (logits**2).sum(), updated["batch_stats"]

        return quick_jit(jax.grad(loss, has_aux=True))(variables["params"])

    expected, statistics = gradients(model)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        gradients(model.clone(remat=(1,))),
        (expected, statistics),
    )
    frozen = model.clone(partial_bn=True)
    apply = functools.partial(frozen.apply, train=True, mutable=["batch_stats"])
    _, updated = quick_jit(apply)(variables, x)
    moved = jax.tree.map(
        lambda a, b: bool(np.any(np.asarray(a) != b)),
        updated["batch_stats"],
        variables["batch_stats"],
    )
    block = moved["stage1_block0"]
    trained = {name for name in block if any(jax.tree.leaves(block[name]))}
    assert trained == {"gate"}
    assert all(jax.tree.leaves((moved["stem"], moved["motion"], block["gate"])))


def test_every_parameter_is_in_a_group_and_biases_of_convolutions_learn_twice_as_fast():
    model, variables = network()
    groups = assign_groups(variables["params"], parse_groups(model.optim_groups))
    for part in (groups["stem"]["conv"], groups["stage1_block0"]["shortcut_conv"], groups["head"]):
        assert (part["bias"].lr, part["bias"].decay) == (2, 0)
        assert (part["kernel"].lr, part["kernel"].decay) == (1, 1)
    norm = groups["motion"]["bn1"]["bias"]
    assert (norm.lr, norm.decay) == (1, 0)


@pytest.mark.parametrize("frames", [3, 8, 0])
def test_frames_that_make_no_segments(frames):
    model, variables = network()
    with pytest.raises(UserError, match=f"{frames} frames.*segments of 5.*multiple of 5"):
        model.apply(variables, np.zeros((1, frames, 8, 8, 3), "f4"))


def test_frames_too_small_to_be_halved():
    model, variables = network()
    with pytest.raises(UserError, match=r"frames are 1x8 pixels.*2x2.*data\.crop"):
        model.apply(variables, np.zeros((1, 5, 1, 8, 3), "f4"))


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("width", 7, "found 7, expected at least 8"),
        ("stem", "big", "'big'.*imagenet or small"),
        ("depth", 18, "found 18, expected 50 or 101"),
    ],
)
def test_wrong_fields(field, value, words):
    with pytest.raises(FieldError, match=words):
        create_model(3, **{"name": "h2cn", field: value})


def test_parameters_and_multiply_accumulates():
    """The state dict's parameters are 9,472 more: those that the network never uses."""
    counted = complexity.count(create_model(174, name="h2cn"), (40, 224, 224, 3))
    assert counted.params == 24_074_440 - 9_472
    # By hand, for 8 segments: plain ResNet-50 without its head; the motion path's depthwise layers
    # and its 7x7; the gates' 1x1, 3x3 and 3-frame layers, and back to the channels.
    hourglasses = 112**2 * (9 * 3 * (5 + 3) + 3 * (3 * 3 + 9))
    motion = hourglasses + 56**2 * 49 * 9 * 64
    sizes = {64: [56] * 3, 128: [56, *[28] * 3], 256: [28, *[14] * 5], 512: [14, 7, 7]}
    gates = sum(
        side**2 * (c * c // 16 + 12 * c // 16) + c * c // 16
        for c, sides in sizes.items()
        for side in sides
    )
    assert counted.macs == 32_699_940_864 + 8 * (motion + gates)
