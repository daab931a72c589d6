"""Recognises what a state dict is by its keys and shapes: whose network, how deep, and whether it
is a plain ResNet.
"""

import re
from collections.abc import Mapping

import numpy as np

from aia_jax.weights.names import WeightsError, describe_depth, stage_sizes, without_prefixes
from aia_jax.weights.report import Shape, shape_text

_IN_BLOCK = r"layer\d+\.\d+\."
# (pattern of keys without prefixes, what such a key means), the telling ones first.
_NOT_PLAIN = (
    (r"conv1\.\d+\..*", "has a stem of several convolutions (ResNet-C, -D, -S or -T)"),
    (
        rf"{_IN_BLOCK}(se|attn)\..*",
        "has another attention in its blocks (squeeze-and-excitation, ECA and the like)",
    ),
    (
        rf"{_IN_BLOCK}(conv\d\.(?!weight|bias)|convs\.).*",
        "has blocks of several branches (SK, Res2Net or ResNeSt)",
    ),
    (rf"{_IN_BLOCK}(nl|block)\..*", "has non-local blocks"),
    (rf"{_IN_BLOCK}downsample\.2\..*", "pools in its shortcuts (ResNet-D)"),
    (r"(stem|stages)\..*", "is not a ResNet with torchvision's names"),
)
_UNITS = {
    "C": "C",
    "HTW": "ST",
    "CHTW": "CinST or STinC",
}  # units of an attention module → which it is, as far as keys tell


def recognise(state_dict: Mapping[str, np.ndarray]) -> str:
    """Says in a line what a state dict is.

    torchvision's and timm's plain ResNets have the same keys and shapes, and so have CinST and
    STinC, TSN and the AIA authors' TSM: no state dict tells them apart.

    Raises:
        WeightsError: a network that is like a ResNet and not of the plain kind; says what is
            different and names a key that shows it.
    """
    if is_own(state_dict):
        return f"variables of this project, {describe_depth(stage_sizes(state_dict))}"
    keys = {
        without_prefixes(key): key for key in state_dict if not key.endswith("num_batches_tracked")
    }
    shapes = {name: np.shape(state_dict[key]) for name, key in keys.items()}
    if difference := _difference(shapes):
        name, what = difference
        raise WeightsError(
            f"the file's network {what}: {keys[name]} {shape_text(shapes[name])}; only plain "
            "ResNets load, such as resnet50 and resnet101 "
            "of torchvision and of timm"
        )
    sizes = stage_sizes(shapes)
    if not sizes:
        return "no network that is known here"

    head = (
        f"{shapes['fc.weight'][0]} classes in {keys['fc.weight'].removesuffix('.weight')}"
        if "fc.weight" in shapes
        else "no head"
    )
    what = f"{describe_depth(sizes)}, {head}"
    gates: dict[str, set[str]] = {}
    for name in shapes:
        if match := re.search(r"\.(eft\d?)\.([CTHW])_", name):
            gates.setdefault(match[1], set()).add(match[2])
    if gates:
        modules = ", ".join(
            f"{eft} is {_UNITS.get(''.join(sorted(units)), 'of no known kind')}"
            for eft, units in sorted(gates.items())
        )
        return f"a network of the AIA authors', or one that --to-torch wrote: {what}; {modules}"
    if any(".net." in key for key in state_dict):
        return f"mit-han-lab's TSM: {what}"
    if any("base_model." in key for key in state_dict):
        return f"a TSN or TSM with the AIA authors' names: {what}"
    return f"a plain ResNet with torchvision's and timm's names: {what}"


def is_own(state_dict: Mapping[str, np.ndarray]) -> bool:
    """Whether the keys are paths of this project's variables, as in the folders that
    `convert_torch_weights.py` writes.
    """
    return bool(state_dict) and all(re.match(r"(params|batch_stats)/", key) for key in state_dict)


def _difference(shapes: Mapping[str, Shape]) -> tuple[str, str] | None:
    """A key, and what it shows, that no plain ResNet has."""
    for pattern, what in _NOT_PLAIN:
        if name := next((name for name in shapes if re.fullmatch(pattern, name)), None):
            return name, what
    first = "layer1.0.conv2.weight"
    if first not in shapes:
        return None
    if not any(name.startswith("layer1.0.conv3") for name in shapes):
        return first, "has basic blocks of two convolutions (ResNet-18 or -34)"
    if shapes[first][:1] != shapes[first][1:2]:
        return first, "has grouped convolutions (ResNeXt)"
    if shapes[first][:1] != shapes.get("conv1.weight", shapes[first])[:1]:
        return first, "has wide blocks (Wide ResNet)"
    if not any(name.endswith("running_mean") for name in shapes):
        return next(
            name for name in shapes if "bn" in name
        ), "has no running statistics (group normalisation)"
    return None
