"""How H2CN's arrays are called in PyTorch's checkpoints, and how their axes lie there.

Known sources: the authors' checkpoints (Kinetics-400, 8 and 16 segments), and for a start the plain
ResNet-50 of torchvision and others with its names. A *canonical key* is a key without prefixes and
without the authors' `_bak`: `module.base_model.layer1_bak.0.conv1.weight` is
`layer1.0.conv1.weight`, as in torchvision. `aia_jax/weights/names.py` lists what a file like this
one offers.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import numpy as np

from aia_jax.models.resnet.torch_sources import canonical_key
from aia_jax.models.torch_bottlenecks import stage_fields
from aia_jax.models.torch_keys import (
    CONV2D,
    DENSE,
    DEPTHS,
    VECTOR,
    Row,
    batch_norm_rows,
    describe_stages,
    is_counter,
    stage_sizes,
)

SIZE_FIELDS = "model.depth (or model.stage_sizes)"

_BLOCK, _TORCH_BLOCK = r"stage(\d+)_block(\d+)", r"layer\1.\2"
_IN_BLOCK = r"layer\d+\.\d+\."
_SPATIAL = (2, 3, 0)  # depthwise [c, 1, h, w] → [h, w, c]
_TEMPORAL = (2, 3, 4, 0)  # depthwise [c, 1, d, 1, 1] → [d, 1, 1, c]

# A convolution that the authors' network has and never uses. It gets no gradient either.
_UNUSED = "conv1_temp"
_MOTION_KERNEL = "conv_fhgc.0.weight"


def table(model: nn.Module) -> list[Row]:
    """(pattern of a variable's path, its canonical key, axes), for every variable of a network."""
    del model  # the same for all of the family
    hourglass, gate = r"motion/hourglass(\d)", f"{_BLOCK}/gate"
    torch_gate = f"{_TORCH_BLOCK}.mtdin"
    return [
        ("params/stem/conv/kernel", "conv1.weight", CONV2D),
        ("params/stem/conv/bias", "conv1.bias", VECTOR),
        *batch_norm_rows("stem/bn", "bn1"),
        (f"params/{hourglass}/spatial/kernel", r"fhgc\1.0.spaAgg.weight", _SPATIAL),
        (f"params/{hourglass}/temporal/kernel", r"fhgc\1.0.convt.weight", _TEMPORAL),
        *batch_norm_rows(r"motion/bn(\d)", r"fhgc\1.1"),
        ("params/motion/stem/conv/kernel", _MOTION_KERNEL, CONV2D),
        *batch_norm_rows("motion/stem/bn", "conv_fhgc.1"),
        (rf"params/{_BLOCK}/conv(\d)/kernel", rf"{_TORCH_BLOCK}.conv\3.weight", CONV2D),
        *batch_norm_rows(rf"{_BLOCK}/bn(\d)", rf"{_TORCH_BLOCK}.bn\3"),
        (f"params/{_BLOCK}/shortcut_conv/kernel", f"{_TORCH_BLOCK}.downsample.0.weight", CONV2D),
        (f"params/{_BLOCK}/shortcut_conv/bias", f"{_TORCH_BLOCK}.downsample.0.bias", VECTOR),
        *batch_norm_rows(f"{_BLOCK}/shortcut_bn", f"{_TORCH_BLOCK}.downsample.1"),
        (f"params/{gate}/reduce/kernel", f"{torch_gate}.conv1.weight", CONV2D),
        *batch_norm_rows(f"{gate}/reduce_bn", f"{torch_gate}.bn1"),
        (f"params/{gate}/spatial/kernel", f"{torch_gate}.conv2.weight", _SPATIAL),
        (f"params/{gate}/temporal/kernel", f"{torch_gate}.convt.weight", _TEMPORAL),
        (f"params/{gate}/expand/kernel", f"{torch_gate}.conv3.weight", CONV2D),
        *batch_norm_rows(f"{gate}/expand_bn", f"{torch_gate}.bn3"),
        ("params/head/kernel", "fc.weight", DENSE),
        ("params/head/bias", "fc.bias", VECTOR),
    ]


def entries(
    state_dict: Mapping[str, np.ndarray], model: nn.Module
) -> list[tuple[str, str, np.ndarray]]:
    """(canonical key, key, array) for every array of a state dict that a variable may come from.

    `conv1_temp` is left out. Where the file has the kernel of a ResNet's first convolution and none
    of the motion path, this one is the mean over colours of that one, as the authors start it.
    """
    del model  # the same for all of the family
    rows = [
        (_canonical(key), key, value)
        for key, value in state_dict.items()
        if not is_counter(key) and not _canonical(key).startswith(f"{_UNUSED}.")
    ]
    if key := _colour_kernel(state_dict):
        mean = np.asarray(state_dict[key], np.float32).mean(1, keepdims=True)
        rows.append((_MOTION_KERNEL, key, mean.repeat(9, 1)))
    return rows


def _colour_kernel(arrays: Mapping[str, np.ndarray]) -> str | None:
    """The key of a ResNet's first kernel, [out, 3, h, w], in a state dict without a motion path."""
    if any("fhgc" in key for key in arrays):
        return None
    first = (key for key, v in arrays.items() if _canonical(key) == "conv1.weight")
    return next((key for key in first if np.shape(arrays[key])[1:2] == (3,)), None)


def notes(arrays: Mapping[str, np.ndarray], model: nn.Module) -> list[str]:
    """Lines on what `entries` leaves out and makes."""
    del model  # the same for all of the family
    unused = [key for key in arrays if _canonical(key).startswith(f"{_UNUSED}.")]
    lines = [f"{' and '.join(unused)}: left out, no network uses them"] if unused else []
    if key := _colour_kernel(arrays):
        lines.append(f"the motion path's convolution starts from the mean over colours of {key}")
    return lines


def _canonical(key: str) -> str:
    return re.sub(r"^(layer\d+)_bak\.", r"\1.", canonical_key(key))


def reference_key(key: str, model: nn.Module) -> str:
    """The authors' name of a canonical key; the head is `new_fc` in a network with dropout."""
    if key.startswith("fc.") and model.dropout > 0:
        return key.replace("fc.", "new_fc.")
    return "base_model." + re.sub(r"^(layer\d+)\.", r"\1_bak.", key)


def unused_arrays(model: nn.Module) -> dict[str, np.ndarray]:
    """What the authors' network has and never uses, so that it loads with strict=True: zeros.

    There it holds the kernel that the stem started from, which a trained network no longer knows.
    """
    size = 7 if model.stem == "imagenet" else 3
    return {
        f"base_model.{_UNUSED}.weight": np.zeros((model.width, 3, size, size), np.float32),
        f"base_model.{_UNUSED}.bias": np.zeros(model.width, np.float32),
    }


def is_backbone(name: str) -> bool:
    """Whether a variable or a canonical key belongs to the ResNet that every start must fill.

    Biases of convolutions, the motion path and the gates do not: ImageNet's networks lack them.
    Every key in a block belongs to it except those of gates and of the reference's attention.
    """
    return bool(
        re.match(r"(params|batch_stats)/stem/(conv/kernel|bn/)", name)
        or re.match(
            rf"(params|batch_stats)/{_BLOCK}/(conv\d/|bn\d/|shortcut_conv/kernel|shortcut_bn/)",
            name,
        )
        or re.fullmatch(r"conv1\.weight|bn1\.(weight|bias|running_mean|running_var)", name)
        or re.match(rf"{_IN_BLOCK}(?!mtdin|eft|downsample\.0\.bias)", name)
    )


def optional_module(name: str) -> str | None:
    """The gate of one block that a variable or a canonical key belongs to."""
    match = re.search(rf"{_IN_BLOCK}mtdin(?=\.)|stage\d+_block\d+/gate(?=/)", name)
    return match and match[0]


def describe_size(names: Iterable[str]) -> str | None:
    """A text such as "ResNet-50 (3-4-6-3 blocks)"; None if no name is in a block.

    Args:
        names: paths of variables or canonical keys.
    """
    sizes = stage_sizes(names)
    return describe_stages(sizes) if sizes else None


def pretrained_source(model: nn.Module) -> str:
    """The public ImageNet network whose weights a recipe starts from, with its article."""
    depth = DEPTHS.get(model.stages)
    return f"a ResNet-{depth}" if depth else f"a {describe_stages(model.stages)}"


def shown_fields(keys: Iterable[str]) -> dict[str, Any]:
    """Fields that keys show and no shape does: there are none."""
    del keys
    return {}


def contradiction(keys: Iterable[str], model: nn.Module) -> str | None:
    """What keys show of another network with the same variables: there is none."""
    del keys, model
    return None


def compare_start(fields: Mapping[str, Any], model: nn.Module) -> Sequence[str]:
    """Notes on how the network of the weights differs: shapes and keys show all differences."""
    del fields, model
    return ()


def recognise(state_dict: Mapping[str, np.ndarray]) -> str | None:
    """Says in a line which network of the family a state dict belongs to; None if to none."""
    if not any(re.search(r"layer\d+_bak\.\d+\.mtdin\.", key) for key in state_dict):
        return None
    keys = {_canonical(key): key for key in state_dict if not is_counter(key)}
    head = "no head"
    if "fc.weight" in keys:
        classes = np.shape(state_dict[keys["fc.weight"]])[0]
        head = f"{classes} classes in {keys['fc.weight'].removesuffix('.weight')}"
    return f"an H2CN of its authors, or one that --to-torch wrote: {describe_size(keys)}, {head}"


def propose_fields(state_dict: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Fields of the network that a state dict is of."""
    return stage_fields({_canonical(key): np.shape(value) for key, value in state_dict.items()})
