"""Weights with the names of other programs: what their own networks take, and what they lack."""

import functools
import json

import jax
import numpy as np
import pytest
import torch
from flax.traverse_util import flatten_dict, unflatten_dict

from aia_jax import create_model
from aia_jax.errors import UserError, exit_status
from aia_jax.models import clip_shape, network_of
from aia_jax.models.resnet.torch_formats import to_format
from aia_jax.models.resnet.torch_sources import canonical_key
from aia_jax.weights import __main__ as command
from aia_jax.weights import from_torch, to_torch
from aia_jax.weights.convert_back import format_names
from aia_jax.weights.files import save_folder, write_state_dict
from aia_jax.weights.recognise import propose_fields, recognise
from aia_jax.weights.state_dict_files import read_state_dict_file
from tests.golden import recipe
from tests.helpers import torch_nets
from tests.helpers.paths import GOLDEN
from tests.helpers.torch_sources import Recognizer2D, ResNetForImageClassification

VIT = {"name": "vit", "size": "", "width": 32, "layers": 2, "heads": 4, "mlp_dim": 48, "patch": 8}
TSM = {"temporal": "tsm", "shift_blocks": "tsm"}
NON_LOCAL = {"temporal": "tsm", "non_local": True}
DEEP = (3, 4, 23, 3)


def torchvision_resnet(classes):
    """torchvision's names are those of TSN's authors within `base_model`."""
    return torch_nets.VideoNet(classes, dropout=0).base_model


# Format, fields of the network here, and the program's own network.
NETS = {
    "TSN": ("mmaction2", {}, Recognizer2D),
    "TSM": ("mmaction2", TSM, functools.partial(Recognizer2D, shift=True)),
    "deep TSM": (
        "mmaction2",
        TSM | {"depth": 101},
        functools.partial(Recognizer2D, stages=DEEP, shift=True),
    ),
    "TSM-NL": (
        "mmaction2",
        NON_LOCAL,
        functools.partial(Recognizer2D, shift=True, non_local=True),
    ),
    "torchvision": ("torchvision", {"dropout": 0.0}, torchvision_resnet),
    "timm": ("timm", {}, torchvision_resnet),
    "transformers": ("transformers", {}, ResNetForImageClassification),
}


def resnet(classes=5, **fields):
    return create_model(classes, **fields)


def numbered(model):
    """Variables of a network: each has a number of its own everywhere, which costs little."""
    clips = np.zeros((1, *clip_shape(model.clone(num_frames=1))), "f4")
    shapes = jax.eval_shape(model.init, jax.random.key(0), clips)
    leaves = flatten_dict(shapes, sep="/").items()
    values = {
        # mmaction2's non-local blocks have no such bias.
        name: np.full(leaf.shape, 0 if name.endswith("/out/bias") else 1 + number, "f4")
        for number, (name, leaf) in enumerate(leaves)
    }
    return unflatten_dict(values, sep="/")


@pytest.mark.parametrize("name", NETS)
def test_the_names_are_those_of_the_program_s_own_network(name):
    format_name, fields, make = NETS[name]
    with torch.device("meta"):
        keys = [key for key in make(5).state_dict() if not key.endswith("num_batches_tracked")]
    arrays = {canonical_key(key): np.array(number) for number, key in enumerate(keys)}
    written = to_format(arrays, resnet(**fields), format_name)
    assert written == dict(zip(keys, range(len(keys)), strict=True))


@pytest.mark.parametrize("source", ["torchvision", "timm", "transformers file"])
def test_a_vit_goes_out_under_the_library_s_keys(source):
    """The keys and shapes were listed from the libraries' own networks."""
    listed = json.loads((GOLDEN / "vit_library_state_dict_shapes.json").read_text())[source]
    model = create_model(7, 3, image_size=32, **VIT)
    arrays = {key: recipe.vit_tensor(key, tuple(shape)) for key, shape in listed.items()}
    variables = from_torch(arrays, model)
    written = to_torch(variables, model, format_name=source.split()[0])
    assert {key: list(value.shape) for key, value in written.items()} == listed
    for key, value in written.items():
        np.testing.assert_array_equal(value, arrays[key])


def test_a_bias_that_mmaction2_lacks_moves_into_the_mean_behind_it():
    ours = {"W.0.bias": np.ones(2, "f4"), "W.1.running_mean": np.full(2, 3, "f4")}
    ours = {f"layer2.0.nl.{name}": value for name, value in ours.items()}
    written = to_format(ours, resnet(**NON_LOCAL), "mmaction2")
    ((name, mean),) = written.items()
    assert name == "backbone.layer2.0.non_local_block.conv_out.bn.running_mean"
    np.testing.assert_array_equal(mean, [2, 2])


@pytest.mark.parametrize(
    ("format_name", "fields", "said"),
    [
        ("torchvision", TSM, "its ResNet has no temporal shift"),
        ("transformers", {"non_local": True}, "its ResNet has no non-local blocks"),
        ("mmaction2", {"non_local": True}, "its TSN has no non-local blocks"),
        ("mmaction2", {"attention": "CinST"}, "no attention modules (model.attention=CinST)"),
        ("mmaction2", {"temporal": "tsm", "depth": 101}, "model.shift_blocks=tsm"),
        ("timm", {"stem": "small"}, "begins with a 7x7 convolution (model.stem=small)"),
        ("timm", {"width": 8}, "its ResNets have 64 channels and the depths 50, 101, 152, not 8"),
        ("timm", {"stage_sizes": (1, 1)}, "stages of 1-1 blocks"),
        ("timm", VIT | {"shift": "KV"}, "its frames do not meet (model.shift=KV)"),
        ("torchvision", VIT | {"image_size": (32, 48)}, "square (model.image_size=32,48)"),
        ("mmaction2", VIT, "the network vit is written in the format aia or torchvision"),
        ("mmaction2", {"name": "gst"}, "the network gst is written in the format aia"),
    ],
)
def test_what_a_program_lacks_is_one_line(format_name, fields, said):
    model = create_model(5, **{"image_size": 32, **fields} if "patch" in fields else fields)
    names = network_of(model).torch_names
    with pytest.raises(UserError) as error:
        if format_name in format_names(names):
            names.to_format({}, model, format_name)
        else:
            to_torch({}, model, format_name=format_name)
    message = str(error.value)
    assert said in message and message.startswith(f"{format_name} has no network for ")
    assert "\n" not in message


def test_a_file_for_mmaction2_loads_there_and_says_what_its_keys_do_not(tmp_path, capsys):
    model, net, out = resnet(3, **NON_LOCAL), tmp_path / "net", tmp_path / "net.pth"
    variables, names = numbered(model), ("up", "down", "still")
    fields = {"name": "resnet", **NON_LOCAL, "num_classes": 3}
    save_folder(net, variables, {"model": fields, "class_names": names})
    command.main([str(net), "--format", "mmaction2", "--out", str(out)])
    assert "head cls_head.fc_cls.weight [3, 2048], TSM with non-local" in capsys.readouterr().out

    content = torch.load(out, weights_only=True)
    assert content.keys() == {"meta", "state_dict"}
    with torch.device("meta"):
        theirs = Recognizer2D(3, shift=True, non_local=True)
    theirs.load_state_dict(content["state_dict"], strict=True, assign=True)
    config = {}
    exec(content["meta"]["cfg"], config)  # it is Python
    backbone = config["model"]["backbone"]
    assert backbone["type"] == "ResNetTSM" and backbone["depth"] == 50
    assert backbone["non_local"][1:3] == ((1, 0, 1, 0), (1, 0, 1, 0, 1, 0))
    assert config["model"]["data_preprocessor"]["mean"] == [123.675, 116.28, 103.53]

    file = read_state_dict_file(out)
    text = file.about.config_text
    assert file.about.class_names == names
    assert recognise(file.arrays, text).startswith("mmaction2's TSM with non-local blocks")
    assert propose_fields(file.arrays, text).items() >= NON_LOCAL.items()
    jax.tree.map(np.testing.assert_array_equal, from_torch(file.arrays, model), variables)


def test_a_safetensors_file_holds_the_config_too(tmp_path):
    path = tmp_path / "net.safetensors"
    write_state_dict(path, {"a": np.ones(1, "f4")}, ("up", "down"), "model = dict()")
    about = read_state_dict_file(path).about
    assert about.config_text == "model = dict()" and about.class_names == ("up", "down")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["net"], "one of the arguments"),
        (["net", "--format", "aia"], "need --out FILE"),
        (["net", "--hub", "hub", "--out", "net.pth"], "need --out FILE"),
        (["net", "--format", "keras", "--out", "net.pth"], "choose from"),
        (["net", "--workdir", "run", "--format", "aia", "--out", "net.pth"], "not allowed with"),
        (["net", "--to-torch", "--out", "net.pth", "--license", "mit"], "belongs to --hub"),
        (["net.pth", "--format", "aia", "--out", "other.pth"], "net.pth is a file; give a folder"),
        (["nowhere", "--hub", "hub"], "there is no checkpoint in nowhere"),
    ],
)
def test_wrong_input_ends_with_status_2(tmp_path, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.pth").touch()
    try:
        status = exit_status(lambda: command.main(arguments))
    except SystemExit as stop:  # argparse's own
        status = stop.code
    assert status == 2 and said in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["net.pth"]
