"""Weights of mmaction2 and Hugging Face: the same logits, what they are, and what does not load."""

import jax
import numpy as np
import pytest
import torch

from aia_jax import create_model
from aia_jax.models import NETWORKS
from aia_jax.models.resnet.torch_names import propose_fields, shown_fields
from aia_jax.models.resnet.torch_sources import canonical_key
from aia_jax.weights import WeightsError, from_torch, load_matching
from aia_jax.weights.recognise import propose_fields as recognised_fields
from aia_jax.weights.recognise import recognise
from tests.helpers import torch_nets
from tests.helpers.quick_jit import quick_jit
from tests.helpers.torch_sources import Recognizer2D, ResNetForImageClassification

CLIP = (3, 48, 40, 3)
SHORT, LONG = (1, 2, 1), (1, 3, 5)  # blocks of each stage; LONG has all of the non-local blocks
GAUSSIAN = """model = dict(backbone=dict(type='ResNetTSM', non_local_cfg=dict(
    sub_sample=True, use_scale=False, norm_cfg=dict(type='BN3d', requires_grad=True),
    mode='embedded_gaussian'), shift_div=8), cls_head=dict(mode='fan_out'))"""
FLOAT = np.float32


def mmaction(stages=(3, 4, 6, 3), **fields):
    return Recognizer2D(400, stages=stages, **fields)


def hugging_face(stages=(3, 4, 6, 3), **fields):
    return ResNetForImageClassification(1000, stages=stages, **fields)


NETS = {
    "mmaction2 TSN": (mmaction, SHORT, {}, {}, "mmaction2's TSN"),
    "mmaction2 TSM": (mmaction, SHORT, {"shift": True}, {"temporal": "tsm"}, "mmaction2's TSM"),
    "mmaction2 TSM-NL": (
        mmaction,
        LONG,
        {"shift": True, "non_local": True},
        {"temporal": "tsm", "non_local": True},
        "mmaction2's TSM with non-local blocks",
    ),
    "Hugging Face": (hugging_face, SHORT, {}, {}, "a plain ResNet with Hugging Face's names"),
}


def shapes_of(make, **fields):
    """The state dict of a network, of zeros that take no memory."""
    with torch.device("meta"):
        entries = make(**fields).state_dict().items()
    return {key: np.broadcast_to(FLOAT(0), tuple(value.shape)) for key, value in entries}


@pytest.mark.parametrize("name", NETS)
def test_logits_are_those_of_the_source(name):
    make, stages, theirs, ours, words = NETS[name]
    segments = {"num_segments": CLIP[0]} if make is mmaction else {}
    net = make(stages, width=8, **segments, **theirs)
    net = torch_nets.randomise(net, seed=2).float().double().eval()
    state_dict = {key: value.float().numpy() for key, value in net.state_dict().items()}
    classes = 400 if make is mmaction else 1000
    assert recognise(state_dict, GAUSSIAN).startswith(f"{words}: ResNet (")
    fields = {"width": 8, "stage_sizes": stages, **ours}
    variables = from_torch(state_dict, create_model(classes, **fields), CLIP)  # no key is left

    clips = np.random.default_rng(0).normal(size=(2, *CLIP))
    expected = net(torch.tensor(clips)).detach().numpy()
    with jax.enable_x64(True):
        model = create_model(classes, **fields, dtype=np.float64)
        logits = np.asarray(quick_jit(model.apply)(variables, clips))
    assert np.abs(logits - expected).max() < 1e-5 * expected.std()


def test_what_the_file_is_and_which_fields_it_shows():
    long = (3, 4, 23, 3)
    for fields, line, shown in (
        (
            {"shift": True},
            "mmaction2's TSM: ResNet-50 (3-4-6-3 blocks), 400 classes in cls_head.fc_cls",
            {"temporal": "tsm"},
        ),
        (
            {"stages": long, "shift": True},
            "mmaction2's TSM: ResNet-101 (3-4-23-3 blocks), 400 classes in cls_head.fc_cls, "
            "model.shift_blocks=tsm",
            {"temporal": "tsm", "shift_blocks": "tsm"},
        ),
        (
            {"stages": long},
            "mmaction2's TSN: ResNet-101 (3-4-23-3 blocks), 400 classes in cls_head.fc_cls",
            {"temporal": "tsn"},
        ),
    ):
        state_dict = shapes_of(mmaction, **fields)
        assert recognise(state_dict) == line and shown_fields(state_dict) == shown
        assert shown.items() <= propose_fields(state_dict).items()
        backbone = {k.removeprefix("backbone."): v for k, v in state_dict.items() if "cls" not in k}
        assert "no head" in recognise(backbone)
    assert recognise(shapes_of(hugging_face)) == (
        "a plain ResNet with Hugging Face's names: ResNet-50 (3-4-6-3 blocks), "
        "1000 classes in classifier.1"
    )


def test_every_source_has_the_keys_of_torchvision():
    plain = {
        key.removeprefix("base_model."): shape
        for key, shape in torch_nets.key_shapes(400, dropout=0).items()
    }
    for make in (mmaction, hugging_face):
        state_dict = shapes_of(make)
        shapes = {canonical_key(key): value.shape for key, value in state_dict.items()}
        assert shapes.keys() == plain.keys()
        assert shapes["layer2.0.downsample.1.bias"] == plain["layer2.0.downsample.1.bias"]
        others = [network.torch_names for name, network in NETWORKS.items() if name != "resnet"]
        assert not any(names.recognise(state_dict) for names in others)
        # The other networks of bottlenecks start from these as from torchvision's.
        for name in ("gst", "c3d", "h2cn"):
            names, model = NETWORKS[name].torch_names, create_model(5, name=name)
            rows = {canonical for canonical, _, _ in names.entries(state_dict, model)}
            counted = {key for key in plain if not key.endswith("tracked")}
            assert counted <= rows


def test_prefixes_on_a_part_of_the_keys():
    state_dict = shapes_of(mmaction, shift=True)
    line = recognise(state_dict)
    for change in (
        lambda k, i: f"module.{k}",
        lambda k, i: f"module.{k}" if i % 2 else k,
        lambda k, i: k.removeprefix("backbone.") if i % 2 else k,
    ):
        changed = {change(key, i): v for i, (key, v) in enumerate(state_dict.items())}
        assert recognise(changed).replace("module.", "") == line
        assert shown_fields(changed) == {"temporal": "tsm"}


def test_a_tsn_of_mmaction2_is_no_tsm():
    """Its keys say so: a TSM's have `.net`."""
    model = create_model(400, temporal="tsm", stage_sizes=SHORT, width=8)
    state_dict = shapes_of(mmaction, stages=SHORT, width=8)
    with pytest.raises(WeightsError, match=r"mmaction2's, without \.net.*shifts the blocks none"):
        from_torch(state_dict, model, CLIP)


def test_a_bias_that_mmaction2_does_not_have_is_zero_and_said():
    model = create_model(400, temporal="tsm", non_local=True, stage_sizes=LONG, width=8)
    state_dict = shapes_of(mmaction, stages=LONG, width=8, shift=True, non_local=True)
    assert not any(key.endswith("conv_out.conv.bias") for key in state_dict)
    clips = np.zeros((1, *CLIP), FLOAT)
    fresh = jax.eval_shape(model.init, jax.random.key(0), clips)
    variables, report = load_matching(dict(state_dict), fresh, model, consume=True)
    bias = variables["params"]["stage2_block0"]["non_local"]["out"]["bias"]
    assert bias.shape == (64,) and not bias.any() and not report.fresh
    assert any("no bias" in note for note in report.notes)


def one(key, *shape):
    return {key: np.broadcast_to(FLOAT(0), shape)}


def renamed(change):
    return {change(key): value for key, value in shapes_of(mmaction, shift=True).items()}


RELATIVES = {
    "MobileNetV2": lambda: one("module.base_model.features.3.conv.0.net.weight", 8, 8, 1, 1),
    "is a MobileNetV2": lambda: one("backbone.layer2.0.conv.0.conv.weight", 8, 8, 1, 1),
    "BNInception": lambda: one("module.base_model.inception_3a_1x1.weight", 8, 8, 1, 1),
    "SlowFast": lambda: one("backbone.slow_path.layer1.0.conv1.conv.weight", 8, 8, 1, 1, 1),
    "I3D, SlowOnly": lambda: one("backbone.layer1.0.conv1.conv.weight", 8, 8, 3, 1, 1),
    r"R\(2\+1\)D": lambda: one("backbone.layer1.0.conv1.conv.conv_s.weight", 8, 8, 1, 3, 3),
    "CSN": lambda: (
        shapes_of(mmaction) | one("backbone.layer1.0.conv2.0.conv.weight", 8, 1, 3, 3, 3)
    ),
    "TPN": lambda: shapes_of(mmaction) | one("neck.lateral_convs.0.conv.weight", 8, 8, 1, 1, 1),
    "TRN": lambda: shapes_of(mmaction) | one("cls_head.consensus.classifier.1.weight", 8, 8),
    "another head": lambda: shapes_of(mmaction) | one("roi_head.bbox_head.fc_cls.weight", 8, 8),
    "TANet": lambda: shapes_of(mmaction) | one("backbone.layer1.0.tam.G.0.weight", 8, 8),
    "TIN": lambda: renamed(lambda key: key.replace(".net.", ".net1.")),
    "shift_place=block": lambda: renamed(lambda key: key.replace("r1.0.", "r1.0.net.")),
    "temporal_pool": lambda: renamed(lambda key: key.replace("layer2.", "layer2.net.")),
    "optical flow": lambda: shapes_of(mmaction) | one("backbone.conv1.conv.weight", 64, 10, 7, 7),
    "Gaussian non-local blocks": lambda: {
        key: value
        for key, value in shapes_of(mmaction, shift=True, non_local=True).items()
        if "theta" not in key and "phi" not in key
    },
    "do not pool": lambda: {
        key.replace("g.0.", "g.").replace("phi.0.", "phi."): value
        for key, value in shapes_of(mmaction, shift=True, non_local=True).items()
    },
    "two convolutions": lambda: {
        key: value for key, value in shapes_of(hugging_face).items() if ".layer.2." not in key
    },
}


@pytest.mark.parametrize("words", RELATIVES)
def test_relatives_are_refused_by_name(words):
    with pytest.raises(WeightsError, match=rf"the file's network .*{words}"):
        recognise(RELATIVES[words](), GAUSSIAN)


def test_what_only_the_config_shows():
    non_local = shapes_of(mmaction, shift=True, non_local=True)
    assert "non-local" in recognise(non_local, GAUSSIAN)
    assert "non-local" in recognise(non_local, GAUSSIAN.replace("    mode='embedded_gaussian'", ""))
    for text, words in (
        (None, r"layer2\.0\.non_local_block.*as it was downloaded"),
        ("model = dict(type='Recognizer2D')", "no config in the file says"),
        (GAUSSIAN.replace("embedded_gaussian", "dot_product"), "mode='dot_product' in its config"),
        (GAUSSIAN.replace("False", "True"), "use_scale=True"),
        (GAUSSIAN.replace("use_scale=False, ", ""), "use_scale=True"),
        (GAUSSIAN.replace("shift_div", "style='caffe', shift_div"), "strides in the 1x1"),
    ):
        with pytest.raises(WeightsError, match=words):
            recognise(non_local, text)
    image = shapes_of(hugging_face)
    assert recognise(image, '{"hidden_act": "relu", "downsample_in_bottleneck": false}')
    with pytest.raises(WeightsError, match=r"strides in the 1x1.*downsample_in_bottleneck=True"):
        recognise(image, '{"downsample_in_bottleneck": true}')
    plain = {canonical_key(key): value for key, value in image.items()}
    assert recognise(plain, '{"architecture": "resnet50"}') == recognise(plain, "not JSON")
    with pytest.raises(WeightsError, match="antialiasing: architecture='resnetaa50'"):
        recognise(plain, '{"architecture": "resnetaa50"}')


def test_the_config_says_how_many_channels_are_shifted():
    tsm, tsn = shapes_of(mmaction, shift=True), shapes_of(mmaction)
    text = GAUSSIAN.replace("shift_div=8", "shift_div=4")
    assert recognised_fields(tsm, text)["fold_div"] == 4
    for state_dict, config in ((tsm, None), (tsm, "dict(type='TSM')"), (tsn, text)):
        assert "fold_div" not in recognised_fields(state_dict, config)
