"""How the ResNet family's arrays are called in PyTorch's checkpoints, and how their axes lie there.

Known sources: the plain ResNets of torchvision and timm, mit-han-lab's TSM, and the AIA authors'
networks, which this project calls the reference. A *canonical key* is a key without the prefixes
and infixes in which these sources differ: `module.base_model.conv1.net.weight` and `conv1.weight`
are both `conv1.weight`. `aia_jax/weights/names.py` lists what a file like this one offers.
"""

import re
from collections.abc import Iterable, Mapping

import flax.linen as nn
import numpy as np

from aia_jax.errors import UserError
from aia_jax.models.attention.expression import module_names
from aia_jax.models.resnet.placement import has_shift
from aia_jax.models.resnet.torch_shift import compare_start, contradiction, shown_fields
from aia_jax.models.torch_keys import (
    CONV2D,
    DENSE,
    DEPTHS,
    VECTOR,
    Row,
    batch_norm_rows,
    canonical_key,
    describe_stages,
    is_counter,
    stage_sizes,
)

__all__ = [
    "SIZE_FIELDS",
    "compare_start",
    "contradiction",
    "describe_size",
    "entries",
    "is_backbone",
    "optional_module",
    "pretrained_source",
    "recognise",
    "reference_key",
    "shown_fields",
    "table",
]

SIZE_FIELDS = "model.depth (or model.stage_sizes)"

_ATTENTION = (2, 3, 4, 1)  # [1, pools, d, h, w] → [d, h, w, pools]

_BLOCK, _TORCH_BLOCK = r"stage(\d+)_block(\d+)", r"layer\1.\2"

# The reference numbers the modules of an expression from left to right, with one exception. A sum
# does not depend on the order, so only the keys show it.
_NUMBERED_OTHERWISE = {"CinST+STinC": ("STinC", "CinST")}

# Patterns of canonical keys that no plain ResNet has, and what such a key shows about its network.
# The first pattern that matches counts.
_IN_BLOCK = r"layer\d+\.\d+\."
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

# Letters of the units in an attention module's keys → the modules that have these units.
_MODULES_BY_UNITS = {"C": "C", "HTW": "ST", "CHTW": "CinST or STinC"}


def table(model: nn.Module) -> list[Row]:
    """(pattern of a variable's path, its canonical key, axes), for every variable of a network."""
    rows = [
        ("params/stem/conv/kernel", "conv1.weight", CONV2D),
        *batch_norm_rows("stem/bn", "bn1"),
        (rf"params/{_BLOCK}/conv(\d)/kernel", rf"{_TORCH_BLOCK}.conv\3.weight", CONV2D),
        *batch_norm_rows(rf"{_BLOCK}/bn(\d)", rf"{_TORCH_BLOCK}.bn\3"),
        (f"params/{_BLOCK}/shortcut_conv/kernel", f"{_TORCH_BLOCK}.downsample.0.weight", CONV2D),
        *batch_norm_rows(f"{_BLOCK}/shortcut_bn", f"{_TORCH_BLOCK}.downsample.1"),
        ("params/head/kernel", "fc.weight", DENSE),
        ("params/head/bias", "fc.bias", VECTOR),
    ]
    for module, eft in _reference_modules(model.attention).items():
        ours, torchs = f"{_BLOCK}/attention/{module}/([CTHW])", rf"{_TORCH_BLOCK}.{eft}.\3"
        rows += [
            (f"params/{ours}/conv/kernel", f"{torchs}_conv.weight", _ATTENTION),
            *batch_norm_rows(f"{ours}/bn", f"{torchs}_bn"),
        ]
    return rows


def _reference_modules(expression: str) -> dict[str, str]:
    """Attention module's name here → the reference's: `eft` if there is one, else eft1, eft2."""
    names = _NUMBERED_OTHERWISE.get(expression.replace(" ", "")) or module_names(expression)
    if len(names) == 1:
        return {names[0]: "eft"}
    return {name: f"eft{number}" for number, name in enumerate(names, 1)}


def entries(
    state_dict: Mapping[str, np.ndarray], model: nn.Module
) -> list[tuple[str, str, np.ndarray]]:
    """(canonical key, key, array) for every array of a state dict that a variable may come from."""
    del model  # the same for all of the family
    return [
        (canonical_key(key), key, value) for key, value in state_dict.items() if not is_counter(key)
    ]


def reference_key(key: str, model: nn.Module) -> str:
    """The reference's name of a canonical key; the head is `new_fc` in a network with dropout.

    Where the network shifts by TSM's own rule, the key says so as in TSM's released code.
    """
    if key.startswith("fc.") and model.dropout > 0:
        return key.replace("fc.", "new_fc.")
    if model.temporal == "tsm" and model.shift_blocks == "tsm":
        match = re.fullmatch(r"layer(\d+)\.(\d+)\.conv1\.weight", key)
        if match and has_shift(model.stages, int(match[1]) - 1, int(match[2]), "tsm"):
            key = key.replace("conv1.", "conv1.net.")
    return f"base_model.{key}"


def is_backbone(name: str) -> bool:
    """Whether a variable or a canonical key belongs to the network without head and attention.

    Every key in a block belongs to it except attention's, even a key that no variable here has.
    """
    return bool(
        re.match(
            rf"(params|batch_stats)/(stem|{_BLOCK}/(conv\d|bn\d|shortcut_conv|shortcut_bn))/", name
        )
        or re.fullmatch(r"conv1\.weight|bn1\.(weight|bias|running_mean|running_var)", name)
        or re.match(rf"{_IN_BLOCK}(?!eft)", name)
    )


def optional_module(name: str) -> str | None:
    """The attention module of one block that a variable or a canonical key belongs to."""
    match = re.search(r"layer\d+\.\d+\.eft\d*(?=\.)|stage\d+_block\d+/attention/\w+(?=/)", name)
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
    if difference := _difference_from_plain(shapes):
        name, description = difference
        raise UserError(
            f"the file's network {description}: {keys[name]} {list(shapes[name])}; only plain "
            "ResNets load, such as resnet50 and resnet101 of torchvision and of timm"
        )
    size = describe_size(shapes)
    if size is None:
        return None
    shift = shown_fields(state_dict)  # raises for a shift that no network here has

    head = "no head"
    if "fc.weight" in shapes:
        classes = shapes["fc.weight"][0]
        head = f"{classes} classes in {keys['fc.weight'].removesuffix('.weight')}"
    units: dict[str, set[str]] = {}  # name of an attention module → letters of its units
    for name in shapes:
        if match := re.search(r"\.(eft\d?)\.([CTHW])_", name):
            units.setdefault(match[1], set()).add(match[2])
    if units:
        modules = ", ".join(
            f"{eft} is {_MODULES_BY_UNITS.get(''.join(sorted(letters)), 'of no known kind')}"
            for eft, letters in sorted(units.items())
        )
        return (
            "a network of the AIA authors', or one that --to-torch wrote: "
            f"{size}, {head}; {modules}"
        )
    if shift:
        rule = f", model.shift_blocks={shift['shift_blocks']}" if "shift_blocks" in shift else ""
        return f"mit-han-lab's TSM: {size}, {head}{rule}"
    if any("base_model." in key for key in state_dict):
        return f"a TSN or TSM with the AIA authors' names: {size}, {head}"
    return f"a plain ResNet with torchvision's and timm's names: {size}, {head}"


def _difference_from_plain(shapes: Mapping[str, tuple[int, ...]]) -> tuple[str, str] | None:
    """A canonical key that shows a difference from a plain ResNet, and the difference in words."""
    for pattern, description in _NOT_PLAIN:
        if name := next((name for name in shapes if re.fullmatch(pattern, name)), None):
            return name, description
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
        norm = next((name for name in shapes if "bn" in name), first)
        return norm, "has no running statistics (group normalisation)"
    return None
