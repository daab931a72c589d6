"""How the ResNet family's arrays are called in PyTorch's checkpoints, and how their axes lie there.

Known sources: the plain ResNets of torchvision, timm and Hugging Face, mit-han-lab's TSM,
mmaction2's TSN and TSM, and the AIA authors' networks, which this project calls the reference. A
*canonical key* is torchvision's, whichever source's the key is (`torch_sources.py`):
`module.base_model.conv1.net.weight` and `backbone.conv1.conv.weight` are both `conv1.weight`.
`aia_jax/weights/names.py` lists what a file like this one offers.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import flax.linen as nn
import numpy as np

from aia_jax.errors import UserError
from aia_jax.models.resnet import torch_shift
from aia_jax.models.resnet.modeling import TEMPORALS
from aia_jax.models.resnet.torch_attention import (
    attention_rows,
    describe_attention,
    propose_attention,
)
from aia_jax.models.resnet.torch_formats import FORMATS, config_of_format, to_format
from aia_jax.models.resnet.torch_non_local import (
    add_biases,
    non_local_contradiction,
    non_local_rows,
    shown_non_local,
    wrap,
)
from aia_jax.models.resnet.torch_relatives import check_config, find_relative, is_3d_convolution
from aia_jax.models.resnet.torch_shift import compare_start, configured_fields, show_shift
from aia_jax.models.resnet.torch_sources import MMACTION, canonical_key, find_source
from aia_jax.models.torch_bottlenecks import (
    BLOCK,
    IN_BLOCK,
    SIZE_FIELDS,
    TORCH_BLOCK,
    bottleneck_rows,
    describe_head,
    describe_size,
    in_backbone,
    pretrained_source,
    stage_fields,
    tsn_key,
)
from aia_jax.models.torch_keys import CONV2D, Choice, Row, is_counter

__all__ = [
    "FORMATS",
    "SIZE_FIELDS",
    "check_config",
    "compare_start",
    "config_of_format",
    "configured_fields",
    "contradiction",
    "describe_size",
    "entries",
    "is_backbone",
    "notes",
    "optional_module",
    "pretrained_source",
    "propose_fields",
    "recognise",
    "reference_key",
    "shown_fields",
    "table",
    "to_format",
]


def table(model: nn.Module) -> list[Row]:
    """(pattern of a variable's path, its canonical key, axes), for every variable of a network."""
    return [
        *bottleneck_rows(CONV2D),
        *attention_rows(model.attention, BLOCK, TORCH_BLOCK),
        *non_local_rows(BLOCK, TORCH_BLOCK),
    ]


def entries(
    state_dict: Mapping[str, np.ndarray], model: nn.Module
) -> list[tuple[str, str, np.ndarray]]:
    """(canonical key, key, array) for every array of a state dict that a variable may come from."""
    del model  # the same for all of the family
    return add_biases(
        [
            (canonical_key(key), key, value)
            for key, value in state_dict.items()
            if not is_counter(key)
        ]
    )


def notes(arrays: Mapping[str, np.ndarray], model: nn.Module) -> list[str]:
    """Lines on what `entries` adds."""
    del model  # the same for all of the family
    key = next((key for key in arrays if ".non_local_block.conv_out.bn." in key), None)
    if key is None:
        return []
    block = key.partition(".conv_out.")[0]
    return [f"{block}.conv_out and its like have no bias in mmaction2: it is zero here"]


def reference_key(key: str, model: nn.Module) -> str:
    """The reference's name of a canonical key; the head is `new_fc` in a network with dropout.

    Where the network shifts by TSM's own rule or has non-local blocks, the keys say so as in TSM's
    released code.
    """
    if model.shift_blocks == "tsm" or model.non_local:
        key = show_shift(key, model)
    return tsn_key(wrap(key) if model.non_local else key, model)


def shown_fields(keys: Iterable[str]) -> dict[str, Any]:
    """Fields that the keys show: `temporal`, `shift_blocks` and `non_local`; {} where none.

    Raises:
        UserError: no network here shifts these blocks, or has non-local blocks there.
    """
    keys = list(keys)
    return torch_shift.shown_fields(keys) | shown_non_local(keys)


def contradiction(keys: Iterable[str], model: nn.Module) -> str | None:
    """A line that says in what the keys show another network than `model`; None if in nothing."""
    keys = list(keys)
    lines = (torch_shift.contradiction(keys, model), non_local_contradiction(keys, model))
    return "; ".join(line for line in lines if line) or None


def is_backbone(name: str) -> bool:
    """Whether a variable or a canonical key belongs to the network without head and attention.

    Every key in a block belongs to it except attention's, even a key that no variable here has.
    """
    return in_backbone(name, others=r"eft|nl\.")


def optional_module(name: str) -> str | None:
    """The attention module or non-local block that a variable or a canonical key belongs to."""
    theirs = rf"{IN_BLOCK}(eft\d*|nl)(?=\.)"
    ours = rf"{BLOCK}/(attention/[\w-]+|non_local)(?=/)"
    match = re.search(rf"{theirs}|{ours}", name)
    return match and match[0]


def recognise(state_dict: Mapping[str, np.ndarray]) -> str | None:
    """Says in a line which network of the family a state dict belongs to; None if to none.

    torchvision's and timm's plain ResNets have the same keys and shapes. So have CinST and STinC,
    and TSN and the AIA authors' TSM. No state dict tells them apart.

    Raises:
        UserError: the network is like a ResNet, and not of the plain kind that loads here; says
            what is different and names a key that shows it.
    """
    keys = {canonical_key(key): key for key in state_dict if not is_counter(key)}
    shapes = {name: np.shape(state_dict[key]) for name, key in keys.items()}
    source = find_source(state_dict)
    is_3d = any(is_3d_convolution(name, shape) for name, shape in shapes.items())
    if is_3d and source is not MMACTION:
        return None  # another network of bottlenecks, such as GST
    if difference := find_relative(shapes):
        name, description = difference
        raise UserError(
            f"the file's network {description}: {keys[name]} {list(shapes[name])}; only plain "
            "ResNets load, such as resnet50 and resnet101 of torchvision and of timm"
        )
    size = describe_size(shapes)
    if size is None:
        return None
    shown = shown_fields(state_dict)  # raises for a network that is not here

    head = describe_head(keys, shapes)
    if attention := describe_attention(shapes):
        return (
            "a network of the AIA authors', or one that --to-torch wrote: "
            f"{size}, {head}; {attention}"
        )
    if shown:
        network = f"{source.name if source else 'mit-han-lab'}'s "
        network += shown.get("temporal", "tsn").upper()
        non_local = " with non-local blocks" if "non_local" in shown else ""
        rule = f", model.shift_blocks={shown['shift_blocks']}" if "shift_blocks" in shown else ""
        return f"{network}{non_local}: {size}, {head}{rule}"
    if source:
        return f"a plain ResNet with {source.name}'s names: {size}, {head}"
    if any("base_model." in key for key in state_dict):
        return f"a TSN or TSM with the AIA authors' names: {size}, {head}"
    return f"a plain ResNet with torchvision's and timm's names: {size}, {head}"


def propose_fields(state_dict: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Fields of the network that a state dict is of, with `Choice` where no array shows one.

    Keys without `.net` say nothing of a shift where the authors of AIA, or TSN's code, wrote them.
    Other such keys are those of networks without a shift.
    """
    shapes = {
        canonical_key(key): np.shape(value)
        for key, value in state_dict.items()
        if not is_counter(key)
    }
    attention = propose_attention(shapes)
    is_video = attention != "none" or any("base_model." in key for key in state_dict)
    temporal = Choice(TEMPORALS) if is_video else "tsn"
    fields = {**stage_fields(shapes), "attention": attention, "temporal": temporal}
    return fields | shown_fields(state_dict)
