"""What a state dict is, by the lists of keys of the libraries themselves."""

import json

import numpy as np
import pytest

from aia_jax.weights import WeightsError
from aia_jax.weights.recognise import recognise
from tests.helpers import torch_nets
from tests.helpers.paths import GOLDEN

LISTS = json.loads((GOLDEN / "library_state_dict_shapes.json").read_text())
ONE = np.ones((), "f4")


def library(net: str) -> dict[str, np.ndarray]:
    """A state dict of a library's net; its arrays take no memory.

    The list has the keys of equal blocks once, under "layer1.1-2" for layer1.1 and layer1.2.
    """
    shapes = {}
    for blocks, content in LISTS["nets"][LISTS["same"].get(net, net)].items():
        layer, _, numbers = blocks.partition(".")
        first, _, last = numbers.partition("-")
        prefixes = [""]
        if blocks:
            prefixes = [f"{layer}.{block}." for block in range(int(first), int(last or first) + 1)]
        shapes |= {f"{prefix}{key}": shape for prefix in prefixes for key, shape in content.items()}
    return as_state_dict(shapes)


def as_state_dict(shapes) -> dict[str, np.ndarray]:
    return {key: np.broadcast_to(ONE, shape) for key, shape in shapes.items()}


@pytest.mark.parametrize(
    "net", ["torchvision resnet50", "torchvision resnet101", "timm resnet50", "timm resnet101"]
)
def test_plain_resnets_of_the_libraries(net):
    """Their keys and shapes are those of the plain network that the parity tests compare logits
    with.
    """
    depth = 101 if net.endswith("101") else 50
    state_dict = library(net)
    ours = torch_nets.key_shapes(1000, dropout=0, depth=depth)
    assert {f"base_model.{key}": value.shape for key, value in state_dict.items()} == ours
    assert recognise(state_dict).startswith(
        f"a plain ResNet with torchvision's and timm's names: ResNet-{depth} (3-4-"
    )
    assert recognise(state_dict).endswith("1000 classes in fc")


REFUSED = {
    "torchvision resnet34": "basic blocks of two convolutions",
    "torchvision wide_resnet50_2": "wide blocks",
    "torchvision resnext50_32x4d": "grouped convolutions",
    "timm resnet50d": "a stem of several convolutions .*: conv1.0.weight",
    "timm seresnet50": "another attention in its blocks .*: layer1.0.se.fc1.weight",
    "timm resnet50_gn": "no running statistics",
    "timm skresnet50": "another attention|several branches",
    "timm res2net50_26w_4s": "several branches .*: layer1.0.convs.0.weight",
}


def test_every_list_is_used():
    plain = {"torchvision resnet50", "torchvision resnet101"}
    assert set(LISTS["nets"]) == plain | set(REFUSED) and set(LISTS["same"].values()) == plain


@pytest.mark.parametrize("net", REFUSED)
def test_other_layouts_are_refused(net):
    with pytest.raises(WeightsError, match=f"the file's network has .*{REFUSED[net]}"):
        recognise(library(net))


@pytest.mark.parametrize("attention", torch_nets.EXPRESSIONS[1:])
def test_networks_of_the_reference(attention):
    shapes = torch_nets.key_shapes(174, depth=101, attention=attention)
    text = recognise(as_state_dict({f"module.{key}": shape for key, shape in shapes.items()}))
    assert text.startswith("a network of the AIA authors'")
    assert "ResNet-101 (3-4-23-3 blocks), 174 classes in module.new_fc" in text
    assert text.count("eft") == (2 if "->" in attention or "+" in attention else 1)
    assert all(part in text for part in attention.replace("->", "+").split("+"))


def test_others():
    shapes = torch_nets.key_shapes(174, stage_sizes=(2, 1), width=4)
    assert recognise(as_state_dict(shapes)).startswith(
        "a TSN or TSM with the AIA authors' names: ResNet (2-1 blocks)"
    )
    with_net = {
        key.replace("conv1.weight", "conv1.net.weight") if "layer" in key else key: shape
        for key, shape in shapes.items()
    }
    assert recognise(as_state_dict(with_net)).startswith(
        "mit-han-lab's TSM: ResNet (2-1 blocks), 174 classes in new_fc"
    )
    assert recognise(as_state_dict({"params/stem/conv/kernel": (1,)})).startswith(
        "variables of this project"
    )
    blocks = {f"params/stage1_block{k}/conv1/kernel": (1,) for k in (0, 1)}
    assert recognise(as_state_dict(blocks)) == "variables of this project, ResNet (2 blocks)"
    assert (
        recognise(as_state_dict({"bert.embeddings.weight": (3, 4)}))
        == recognise({})
        == "no network that is known here"
    )
