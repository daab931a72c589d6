"""The modules of Table I that are not AIA's, against PyTorch's layers in float64.

Compared are outputs, gates, gradients and running statistics.
"""

import functools
import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax.traverse_util import flatten_dict, unflatten_dict

from aia_jax import create_model
from aia_jax.complexity import count
from aia_jax.evaluation.gates import gate_maps
from aia_jax.models.attention import MODULES
from aia_jax.models.attention.expression import Attention
from aia_jax.training.freezing import frozen_rule
from aia_jax.training.parameter_groups import assign_groups, parse_groups
from tests.helpers import torch_nets
from tests.helpers.paths import GOLDEN
from tests.helpers.quick_jit import quick_jit
from tests.helpers.tiny_variables import drawn
from tests.helpers.torch_plug_ins import PLUG_INS, PlugIn

MOMENTUM = 0.9
TOLERANCE = {"rtol": 1e-9, "atol": 1e-11}
LEAVES = {"running_mean": "mean", "running_var": "var"}  # torch's name → ours

# Neither 7, 14 nor 9 is divided by the three halvings, and 32 channels have two hidden ones.
TRAINING, EVALUATION = (2, 3, 7, 14, 32), (2, 1, 14, 9, 16)

# The reading of each module that FLOPs and parameters of the paper's Table I agree with.
READINGS = {
    "SE3D": "3-D pool, layers on 8 copies",
    "GE3D-G": "pool module",
    "GE3D-DW133": "stride 1,2,2",
    "GE3D-DW333": "stride 1,2,2",
    "S3D-G": "3-D pool, layer once a clip",
    "CBAM3D177": "biased, BN, once",
    "CBAM3D377": "biased, BN, once",
}


def to_torch(x: np.ndarray) -> torch.Tensor:
    """[B, T, H, W, C] → [B, T, C, H, W], a leaf that takes a gradient."""
    return torch.tensor(x).permute(0, 1, 4, 2, 3).contiguous().requires_grad_()


def from_torch(x: torch.Tensor) -> np.ndarray:
    return x.detach().permute(0, 1, 3, 4, 2).numpy()


def named(arrays) -> dict:
    """(key, array) of a PyTorch module as a tree of ours."""
    tree = {}
    for key, value in arrays:
        *layers, leaf = key.split(".")
        match value.ndim:
            case 2:
                leaf, value = "kernel", value.T
            case 5:
                leaf, value = "kernel", value.permute(2, 3, 4, 1, 0)
                # A convolution within frames has two axes here.
                value = value[0] if layers[0] == "spatial_gate" and len(value) == 1 else value
            case _ if leaf == "weight":
                leaf = "scale"
        tree[(*layers, LEAVES.get(leaf, leaf))] = value.detach().clone().numpy()
    return unflatten_dict(tree)


def statistics_of(module) -> dict:
    return named((k, v) for k, v in module.named_buffers() if not k.endswith("tracked"))


def agree(ours, theirs):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **TOLERANCE), ours, theirs)


@functools.cache
def rows_of(name, shape):
    """How many numbers each channel of a module's BatchNorm layers has: layer → number."""
    seen = {}

    def record(call, args, kwargs, context):
        if isinstance(context.module, nn.BatchNorm) and context.method_name == "__call__":
            seen[context.module.path[1:]] = args[0].size // args[0].shape[-1]
        return call(*args, **kwargs)

    with nn.intercept_methods(record):
        x = jax.ShapeDtypeStruct(shape, jnp.float32)
        jax.eval_shape(lambda x: Attention(name).init(jax.random.key(0), x, False), x)
    return seen


@pytest.mark.parametrize(("train", "shape"), [(True, TRAINING), (False, EVALUATION)])
@pytest.mark.parametrize("name", PLUG_INS)
def test_output_gradients_gates_and_statistics(name, train, shape):
    rng = np.random.default_rng(0)
    data, cotangent = rng.normal(size=shape), rng.normal(size=shape)
    oracle = torch_nets.randomise(PlugIn(name, shape[-1]), seed=1).train(train)
    module = oracle.module
    variables = {
        kind: {name: tree} if tree else {}
        for kind, tree in (
            ("params", named(module.named_parameters())), ("batch_stats", statistics_of(module))
        )
    }  # fmt: skip

    with jax.enable_x64(True):

        def loss(params, x):
            y, updates = Attention(name, MOMENTUM).apply(
                {**variables, "params": params}, x, train, mutable=["batch_stats", "intermediates"]
            )
            return (y * cotangent).sum(), (y, updates)

        gradients, (y, updates) = quick_jit(jax.grad(loss, argnums=(0, 1), has_aux=True))(
            variables["params"], data
        )

    x = to_torch(data)
    expected = oracle(x)
    (expected * to_torch(cotangent).detach()).sum().backward()
    np.testing.assert_allclose(y, from_torch(expected), **TOLERANCE)
    np.testing.assert_allclose(gradients[1], from_torch(x.grad), **TOLERANCE)
    parameters = named((key, p.grad) for key, p in module.named_parameters())
    agree(gradients[0], {name: parameters} if parameters else {})

    gates = updates["intermediates"][name]
    if not train:  # PyTorch has the statistics of the first call now
        expected_gates = {
            key: from_torch(gate) for key, gate in module.gates(to_torch(data)).items()
        }
        assert set(gates) == {f"gate_{key}" for key in expected_gates}
        for key, gate in expected_gates.items():
            assert gate.std() > 1e-3
            np.testing.assert_allclose(gates[f"gate_{key}"][0], gate, **TOLERANCE)

    statistics = flatten_dict(statistics_of(module))
    if train:
        for path, value in statistics.items():
            if path[-1] == "var":  # torch keeps the unbiased variance, Flax the biased one
                old = flatten_dict(variables["batch_stats"][name])[path]
                n = rows_of(name, shape)[path[:-1]]
                new = MOMENTUM * old + (value - MOMENTUM * old) * (n - 1) / n
                statistics[path] = new
    found = flatten_dict(updates.get("batch_stats", {}).get(name, {}))
    agree(found, statistics)


@functools.cache
def count_attention(attention):
    return count(create_model(174, attention=attention), (8, 224, 224, 3))


@pytest.mark.parametrize("name", PLUG_INS)
def test_parameters_and_flops_are_the_paper_s(name):
    golden = json.loads((GOLDEN / "table1_counts.json").read_text())
    expected, plain = golden[f"{name}|{READINGS[name]}"], golden["TSN|plain"]
    tsn, found = count_attention("none"), count_attention(name)
    assert found.params == expected["parameters"]
    # The paper's count has the pool before the head too: 49 numbers in and one out.
    head_pool = plain["operations"] - tsn.paper_flops
    assert head_pool == 8 * 2048 * (49 + 1)
    assert found.paper_flops + head_pool == expected["operations"]
    assert f"{found.paper_flops / 1e9:.2f}" == expected["printed"][1]
    digits = found.params / 1e6
    if name == "CBAM3D177":  # printed as 26.39, which no rounding of its own biased layers gives
        assert f"{digits:.2f}" == "26.40" and digits < 26.4
    else:
        assert f"{digits:.2f}" == expected["printed"][0]


@pytest.mark.parametrize("name", ["SE3D", "GE3D-G", "S3D-G", "GE3D-DW133", "CBAM3D177"])
def test_the_relu_of_its_site_is_applied_and_a_nan_is_not_hidden(name):
    x = np.random.default_rng(0).normal(size=(2, 2, 4, 4, 16)).astype("f4")
    attention = Attention(name)
    variables = drawn(attention, x, False)

    @quick_jit
    def run(x):
        rectified = attention.clone(relu=True).apply(variables, x, False)
        return attention.apply(variables, x, False), rectified

    plain, rectified = run(x)
    assert (plain < 0).any()
    np.testing.assert_array_equal(rectified, np.maximum(plain, 0))
    x[1, 0, 2, 3, 4] = np.nan
    y, _ = run(x)
    assert not np.isnan(y[0]).any() and np.isnan(y[1, 0, 2, 3, 4])
    # It is in the pools of its channel, at least.
    assert np.isnan(y[1, ..., 4]).all() or name == "GE3D-DW133"


@pytest.mark.parametrize("name", ["SE3D", "GE3D-DW333", "CBAM3D377"])
def test_half_precision_has_gates_in_float32_and_finite_gradients(name):
    """Pooled maxima of rounded features tie often; gradients of ties are no NaN."""
    rng = np.random.default_rng(0)
    x, cotangent = (rng.normal(size=(2, 2, 8, 8, 32)).astype("f4") for _ in range(2))
    attention = Attention(name)
    variables = drawn(attention, x, False)

    def loss(params, x):
        y, sown = attention.apply(
            {**variables, "params": params}, x, False, mutable=["intermediates"]
        )
        return (y * cotangent).sum(), (y, sown["intermediates"][name])

    gradient = quick_jit(jax.grad(loss, argnums=(0, 1), has_aux=True))
    whole, (expected, _) = gradient(variables["params"], x)
    half, (y, gates) = gradient(variables["params"], x.astype(jnp.bfloat16))
    assert (y.dtype, half[1].dtype) == (jnp.bfloat16, jnp.bfloat16)
    assert {gate.dtype for (gate,) in gates.values()} == {jnp.dtype("float32")}
    np.testing.assert_allclose(y.astype("f4"), expected, rtol=0, atol=0.05)
    for found, wanted in zip(jax.tree.leaves(half), jax.tree.leaves(whole), strict=True):
        error = np.abs(found.astype("f4") - wanted).mean() / np.abs(wanted).mean()
        assert error < 0.05  # and no NaN


@pytest.mark.parametrize("name", ["GE3D-DW133", "CBAM3D177"])
def test_batch_normalisation_takes_groups_of_clips(name):
    """Two groups of two clips are normalised as each would be alone."""
    x = np.random.default_rng(0).normal(size=(4, 2, 8, 8, 16)).astype("f4")
    attention = Attention(name)
    variables = drawn(attention, x, False)

    @quick_jit
    def run(x):
        groups = attention.clone(bn_group_size=2)
        return [
            module.apply(variables, part, True, mutable=["batch_stats"])[0]
            for module, part in (
                (groups, x),
                (attention, x),
                (attention, x[:2]),
                (attention, x[2:]),
            )
        ]

    found, whole, first, second = run(x)
    expected = np.concatenate([first, second])
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert not np.allclose(whole, expected, rtol=1e-3)


def test_initial_values_are_those_of_the_released_modules():
    x = jnp.zeros((1, 2, 2, 2, 512))

    @quick_jit
    def start(key):
        names = [name for name in PLUG_INS if name != "GE3D-G"]
        return {name: Attention(name).init(key, x, False)["params"][name] for name in names}

    flat = flatten_dict(start(jax.random.key(0)), sep="/")
    deviations = {
        "SE3D/fc1/kernel": (2 / 512) ** 0.5,  # He et al. 2015, by fan-in
        "SE3D/fc2/kernel": (2 / 32) ** 0.5,
        "S3D-G/fc/kernel": 0.0088,  # 0.01, cut off at two deviations: S3D-G's released code
        "GE3D-DW133/conv2/kernel": (2 / 9) ** 0.5,  # "msra" of GE-Net's released networks
        "GE3D-DW333/conv3/kernel": (2 / 27) ** 0.5,
        "CBAM3D177/channel_gate/fc1/kernel": (3 * 512) ** -0.5,  # PyTorch's own
        "CBAM3D177/channel_gate/fc2/kernel": (3 * 32) ** -0.5,
        "CBAM3D377/spatial_gate/conv/kernel": (2 / 147) ** 0.5,  # He by fan-out
    }
    for path, expected in deviations.items():
        assert float(flat[path].std()) == pytest.approx(expected, rel=0.1), path
    for path, leaf in flat.items():
        if not path.endswith("kernel"):
            zero = path.endswith("bias") or "spatial_gate" in path
            np.testing.assert_array_equal(leaf, 0 if zero else 1, err_msg=path)


def test_pictures_of_gates_find_them():
    model = create_model(3, 2, attention="CBAM3D177", stem="small", width=4, stage_sizes=(1,))
    clips = np.random.default_rng(0).normal(size=(1, 2, 8, 8, 3)).astype("f4")
    maps = quick_jit(functools.partial(gate_maps, model))(drawn(model, clips), clips)
    assert [(one.name, one.module, one.guides) for one in maps] == [
        ("channel", "stage1_block0/attention/CBAM3D177", False),
        ("spatial", "stage1_block0/attention/CBAM3D177", False),
    ]
    assert maps[1].values.shape == (1, 2, 8, 8) and float(maps[1].values.std()) > 1e-3


@pytest.mark.parametrize("name", PLUG_INS)
def test_optimiser_groups_cover_them_and_partial_bn_spares_them(name):
    model = create_model(3, attention=name, stem="small", width=4, stage_sizes=(1,))
    clips = jax.ShapeDtypeStruct((1, 2, 8, 8, 3), jnp.float32)
    params = jax.eval_shape(model.init, jax.random.key(0), clips)["params"]
    groups = flatten_dict(assign_groups(params, parse_groups(model.optim_groups)), sep="/")
    frozen = flatten_dict(frozen_rule("", model.partial_bn_frozen)(params), sep="/")
    inside = {path: group for path, group in groups.items() if f"/attention/{name}/" in path}
    assert bool(inside) == (name != "GE3D-G") and any(frozen.values())
    for path, group in inside.items():
        kernel, norm = path.endswith("/kernel"), "/bn" in path
        assert (group.lr, group.decay) == (1 if kernel or norm else 2, float(kernel)), path
        assert not frozen[path]


def test_every_row_of_the_table_is_tested():
    assert set(PLUG_INS) == set(MODULES) - {"C", "ST", "CinST", "STinC"}
