"""Weights of public ViTs into the network here, and out for MSCA's authors."""

import functools
import json
import re

import jax
import numpy as np
import pytest

from aia_jax import create_model
from aia_jax.errors import UserError
from aia_jax.models import clip_shape
from aia_jax.models.vit import torch_names
from aia_jax.weights import WeightsError, from_torch, load_matching, load_own, to_torch
from aia_jax.weights.recognise import recognise
from tests.golden import recipe
from tests.helpers.paths import GOLDEN
from tests.helpers.quick_jit import quick_jit

REFERENCE = json.loads((GOLDEN / "vit_state_dict_shapes.json").read_text())
SHAPES = json.loads((GOLDEN / "vit_library_state_dict_shapes.json").read_text())
LOGITS = dict(np.load(GOLDEN / "vit_library_logits.npz"))
SIZE = {"size": "", "width": 32, "layers": 2, "heads": 4, "mlp_dim": 48, "patch": 8}


def network(classes=7, image_size=32, **fields):
    return create_model(classes, 3, name="vit", image_size=image_size, **{**SIZE, **fields})


MODEL = network()


def state_dict(source, shapes=SHAPES):
    return {key: recipe.vit_tensor(key, tuple(shape)) for key, shape in shapes[source].items()}


@functools.cache
def fresh(model):
    clips = np.zeros((1, *clip_shape(model)), "f4")
    return jax.eval_shape(model.init, jax.random.key(0), clips)


def positions(variables):
    return variables["params"]["position_embedding"]


@functools.cache
def compiled():
    return quick_jit(MODEL.apply)


@pytest.mark.parametrize("source", SHAPES)
def test_logits_are_those_of_the_library(source):
    variables = from_torch(state_dict(source), MODEL)
    logits = compiled()(variables, recipe.clips(2, 3, 32, 32))
    error = np.abs(logits - LOGITS[source]).max() / LOGITS[source].std()
    print(f"{source}: {error:.1e}")
    assert error < 1e-5  # 1e-6 is reached


def test_every_array_of_the_libraries_is_recognised_and_loaded():
    for source in SHAPES:
        arrays = state_dict(source)
        _, report = load_matching(arrays, fresh(MODEL), MODEL)
        assert not report.fresh and not report.dropped
        name = source.split()[0].replace("transformers", "Hugging Face")
        text = recognise({f"module.{key}": value for key, value in arrays.items()})
        assert text.startswith(f"{name}'s ViT") and "(2 layers, 32 channels, patches of 8)" in text
        assert "positions for 4x4 patches" in text and "7 classes" in text
        takes_other_pixels = [note for note in report.notes if "mean 0.485" in note]
        assert bool(takes_other_pixels) == (source == "torchvision")


def test_the_names_of_torchvisions_earlier_files():
    arrays = state_dict("torchvision")
    earlier = {
        key.replace("mlp.0.", "mlp.linear_1.").replace("mlp.3.", "mlp.linear_2."): value
        for key, value in arrays.items()
    }
    assert earlier.keys() != arrays.keys()
    same = functools.partial(jax.tree.map, np.testing.assert_array_equal)
    same(from_torch(earlier, MODEL), from_torch(arrays, MODEL))


@pytest.mark.parametrize("net", REFERENCE)
def test_the_keys_of_the_reference_in_and_out(net):
    """All used, all filled, and back bit for bit under the names that its networks load."""
    model = network(10, 48, width=192, layers=3, heads=12, mlp_dim=768, patch=16, shift="KV")
    arrays = state_dict(net, REFERENCE)
    back = to_torch(from_torch(arrays, model), model)
    assert back.keys() == arrays.keys()
    for key, value in arrays.items():
        np.testing.assert_array_equal(back[key], value)
    assert "model.shift decides" in recognise(arrays)


def test_positions_are_resized_from_files_and_from_folders():
    other = network(image_size=(16, 40))
    variables, report = load_matching(state_dict("Google"), fresh(other), other)
    expected = torch_names.fit_positions(
        state_dict("Google")["Transformer/posembed_input/pos_embedding"], (2, 5), ""
    )
    np.testing.assert_array_equal(positions(variables), expected)
    key = "Transformer/posembed_input/pos_embedding"
    assert report.notes == (f"{key} is resized from 4x4 patches to 2x5, linearly",)

    own, report = load_own(from_torch(state_dict("Google"), MODEL), fresh(other), other)
    np.testing.assert_array_equal(positions(own), expected)
    assert "params/position_embedding is resized from 4x4 patches" in report.notes[0]
    with pytest.raises(WeightsError, match=r"position_embedding.* cannot be resized: 10 patches"):
        load_own(own, fresh(MODEL), MODEL)


def test_a_file_of_a_public_source_is_of_a_square_grid():
    wide = network(image_size=(16, 64))  # 2x8 patches, as many as 4x4
    arrays = state_dict("timm")
    assert not np.allclose(positions(from_torch(arrays, wide)), arrays["pos_embed"])
    own = to_torch(from_torch(arrays, wide), wide)
    np.testing.assert_array_equal(
        positions(from_torch(own, wide)), own["transformer.embeddings.position_embeddings"]
    )


def test_a_head_on_pre_logits_stays_behind_even_with_as_many_classes():
    layer = {"pre_logits/kernel": np.ones((32, 32), "f4"), "pre_logits/bias": np.ones(32, "f4")}
    _, report = load_matching(state_dict("Google") | layer, fresh(MODEL), MODEL)
    assert set(report.fresh) == {"params/head/kernel", "params/head/bias"}
    dropped = {entry.key for entry in report.dropped}
    assert dropped == {"head/kernel", "head/bias", "pre_logits/kernel", "pre_logits/bias"}
    assert "(pre_logits/kernel): both stay behind" in report.notes[0]
    _, report = load_matching(state_dict("Google"), fresh(network(5)), network(5))
    assert set(report.fresh) == {"params/head/kernel", "params/head/bias"} and not report.notes


WRONG_SIZES = {
    "width": ({"width": 16}, r"32 \(embedding/kernel \[8, 8, 3, 32\]\), this net's is 16"),
    "patch": ({"patch": 4}, r"8 \(embedding/kernel \[8, 8, 3, 32\]\), this net's is 4"),
    "layers": ({"layers": 5}, r"2 \(Transformer/encoderblock_1/\S+\), this net's is 5"),
    "mlp_dim": ({"mlp_dim": 64}, r"48 \(\S+Dense_0/kernel \[32, 48\]\), this net's is 64"),
    "heads": ({"heads": 8}, r"4 \(\S+query/kernel \[32, 4, 8\]\), this net's is 8"),
}


@pytest.mark.parametrize("field", WRONG_SIZES)
def test_another_size_is_a_line_for_each_field(field):
    fields, message = WRONG_SIZES[field]
    other = network(**fields)
    with pytest.raises(WeightsError, match=rf"model\.{field}: the weights' is {message}") as caught:
        from_torch(state_dict("Google"), other)
    (found,) = (size for name, size in SIZE.items() if name == field)
    (problem,) = caught.value.problems
    assert problem.endswith(f"; for their network set --config.model.{field}={found}")
    with pytest.raises(WeightsError, match=rf"model\.{field}: the weights' is {found}"):
        load_own(from_torch(state_dict("Google"), MODEL), fresh(other), other)


def test_a_named_size_is_offered_by_its_name():
    one = np.ones((), "f4")
    shapes = {
        "embedding/kernel": (32, 32, 3, 1024),
        "Transformer/encoderblock_23/MlpBlock_3/Dense_0/kernel": (1024, 4096),
        "Transformer/encoderblock_0/MlpBlock_3/Dense_0/kernel": (1024, 4096),
    }
    large = {key: np.broadcast_to(one, shape) for key, shape in shapes.items()}
    base = create_model(7, name="vit")
    with pytest.raises(UserError, match=r"set --config.model.size=L --config.model.patch=32$"):
        torch_names.entries(large, base)


def test_damaged_arrays_are_named():
    arrays = state_dict("timm")
    for key, shape in (("blocks.1.attn.qkv.weight", (95, 32)), ("blocks.0.norm1.bias", (31,))):
        with pytest.raises(WeightsError, match=f"shape: {key}.* is "):
            from_torch(arrays | {key: np.ones(shape, "f4")}, MODEL)
    del arrays["blocks.1.attn.qkv.bias"]
    with pytest.raises(WeightsError, match=r"missing: transformer.encoder.layer.1.attn.key.bias"):
        load_matching(arrays, fresh(MODEL), MODEL)
    unknown = state_dict("timm") | {"blocks.0.adapter.weight": np.ones(3, "f4")}
    with pytest.raises(WeightsError, match=r"not in this net: blocks.0.adapter.weight"):
        load_matching(unknown, fresh(MODEL), MODEL)


TIMM, GOOGLE = "timm", "Google"
RELATIVES = {
    "hybrid, Google": (GOOGLE, {"conv_root/kernel": (7, 7, 3, 64)}, "hybrid R+ViT"),
    "hybrid, timm": (TIMM, {"patch_embed.backbone.stem.conv.weight": (64, 3, 7, 7)}, "hybrid"),
    "hybrid, ResNet-D": (TIMM, {"patch_embed.backbone.layer1.0.conv1.weight": (4, 4, 1, 1)}, "R+V"),
    "DeiT": (TIMM, {"dist_token": (1, 1, 32)}, "a distillation token"),
    "registers": (TIMM, {"reg_token": (1, 4, 32)}, "register tokens"),
    "QK norm": (TIMM, {"blocks.0.attn.q_norm.weight": (8,)}, "normalises queries and keys"),
    "LayerScale": (TIMM, {"blocks.0.ls1.gamma": (32,)}, "LayerScale"),
    "CLIP": (TIMM, {"norm_pre.weight": (32,)}, "CLIP"),
    "averages": (TIMM, {"fc_norm.weight": (32,)}, "averages its patches"),
    "SwiGLU": (TIMM, {"blocks.0.mlp.fc1_g.weight": (48, 32)}, "SwiGLU"),
    "Swin": (
        TIMM,
        {"layers.0.blocks.0.attn.relative_position_bias_table": (9, 2)},
        "positions relative to one another",
    ),
    "BEiT": (TIMM, {"blocks.0.attn.q_bias": (32,)}, "no biases of keys"),
    "TimeSformer": (TIMM, {"blocks.0.temporal_attn.qkv.weight": (96, 32)}, "attention over time"),
    "tubelets": (TIMM, {"patch_embed.proj.weight": (32, 3, 2, 8, 8)}, "patches of several frames"),
}


@pytest.mark.parametrize("relative", RELATIVES)
def test_relatives_are_refused_with_a_key_that_shows_them(relative):
    source, extra, words = RELATIVES[relative]
    arrays = state_dict(source) | {key: np.ones(shape, "f4") for key, shape in extra.items()}
    ((key, shape),) = extra.items()
    with pytest.raises(WeightsError) as caught:
        recognise(arrays)
    assert words in str(caught.value) and f"{key} {list(shape)}" in str(caught.value)
    with pytest.raises(WeightsError, match=re.escape(words)):
        load_matching(arrays, fresh(MODEL), MODEL)


def test_a_vit_without_class_token_or_patches_is_refused():
    arrays = state_dict("timm")
    del arrays["cls_token"]
    with pytest.raises(WeightsError, match=r"has no class token: patch_embed.proj.weight"):
        recognise(arrays)
    arrays = state_dict("timm")  # XCiT has the rest of the keys, and a stem of convolutions
    del arrays["patch_embed.proj.weight"]
    with pytest.raises(WeightsError, match=r"no patch embedding of a single .*: blocks.0.norm1"):
        recognise(arrays)


def test_other_networks_are_not_taken_for_a_vit():
    for key in ("layer1.0.conv1.weight", "bert.encoder.attention.self.query.weight", "head.weight"):
        assert torch_names.recognise({key: np.ones((2, 2), "f4")}) is None


def test_the_shift_is_left_to_the_config_only_where_the_file_may_have_one():
    tokshift = {
        key: np.broadcast_to(np.float32(0), shape) for key, shape in REFERENCE["TokShift"].items()
    }
    # No array of a small network in torch's layout shows its heads; Google's kernels do.
    assert torch_names.undecided_fields(tokshift) == ("heads", "shift", "shift_div")
    undecided = {source: torch_names.undecided_fields(state_dict(source)) for source in SHAPES}
    assert undecided == {source: () if source == "Google" else ("heads",) for source in SHAPES}


def test_a_start_from_weights_of_another_shift():
    """A ViT's, or a sibling's, may be meant; another share of the same shift is not."""
    msca = network(shift="KV")
    for shift in ("none", "token"):
        (note,) = torch_names.compare_start({"shift": shift, "shift_div": 0}, msca)
        assert f"model.shift={shift}; this run's is KV, which counts" in note
    for same in ({}, {"shift": "KV"}, {"shift": "KV", "shift_div": 0}, {"shift_div": 4}):
        assert torch_names.compare_start(same, msca) == []
    with pytest.raises(UserError, match=r"other heads; add --config.model.shift_div=2"):
        torch_names.compare_start({"shift": "KV", "shift_div": 2}, msca)


def test_the_source_of_a_recipe():
    base = create_model(7, name="vit")
    assert torch_names.pretrained_source(base) == "Google's ViT-B_16.npz (ImageNet-21k)"
