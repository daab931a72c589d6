"""What the checkpoints of networks of bottlenecks have in common: torchvision's names of a ResNet.

A file `torch_names.py` takes from here what its network shares with a plain ResNet. The last three
functions are for networks whose fields all show in the shapes of their variables.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import flax.linen as nn

from aia_jax.models.stages import STAGE_SIZES
from aia_jax.models.torch_keys import (
    DENSE,
    DEPTHS,
    VECTOR,
    Row,
    batch_norm_rows,
    describe_stages,
    stage_sizes,
)

SIZE_FIELDS = "model.depth (or model.stage_sizes)"

BLOCK, TORCH_BLOCK = r"stage(\d+)_block(\d+)", r"layer\1.\2"
IN_BLOCK = r"layer\d+\.\d+\."


def bottleneck_rows(axes: tuple[int, ...], convolutions: str = r"\d") -> list[Row]:
    """Rows of a network's table for stem, bottlenecks and head.

    Args:
        axes: of the convolutions' kernels, such as `CONV2D`.
        convolutions: a pattern for the numbers of a bottleneck's convolutions that have rows here.
    """
    return [
        ("params/stem/conv/kernel", "conv1.weight", axes),
        *batch_norm_rows("stem/bn", "bn1"),
        (rf"params/{BLOCK}/conv({convolutions})/kernel", rf"{TORCH_BLOCK}.conv\3.weight", axes),
        *batch_norm_rows(rf"{BLOCK}/bn(\d)", rf"{TORCH_BLOCK}.bn\3"),
        (f"params/{BLOCK}/shortcut_conv/kernel", f"{TORCH_BLOCK}.downsample.0.weight", axes),
        *batch_norm_rows(f"{BLOCK}/shortcut_bn", f"{TORCH_BLOCK}.downsample.1"),
        ("params/head/kernel", "fc.weight", DENSE),
        ("params/head/bias", "fc.bias", VECTOR),
    ]


def in_backbone(name: str, others: str) -> bool:
    """Whether a variable or a canonical key belongs to the stem or to a bottleneck.

    Every key in a bottleneck belongs to it, even a key that no variable has, except `others`.

    Args:
        name: path of a variable, or canonical key.
        others: a pattern for how the rest of a canonical key begins, behind the bottleneck's, where
            it is of something else.
    """
    return bool(
        re.match(
            rf"(params|batch_stats)/(stem|{BLOCK}/(conv\d|bn\d|shortcut_conv|shortcut_bn))/", name
        )
        or re.fullmatch(r"conv1\.weight|bn1\.(weight|bias|running_mean|running_var)", name)
        or re.match(rf"{IN_BLOCK}(?!{others})", name)
    )


def tsn_key(key: str, model: nn.Module) -> str:
    """A canonical key as TSN's code and its followers write it: `new_fc` is a head with dropout."""
    if key.startswith("fc.") and model.dropout > 0:
        return key.replace("fc.", "new_fc.")
    return f"base_model.{key}"


def describe_size(names: Iterable[str]) -> str | None:
    """A text such as "ResNet-50 (3-4-6-3 blocks)"; None if no name is in a block.

    Args:
        names: paths of variables or canonical keys.
    """
    sizes = stage_sizes(names)
    return describe_stages(sizes) if sizes else None


def describe_head(keys: Mapping[str, str], shapes: Mapping[str, tuple[int, ...]]) -> str:
    """A text such as "174 classes in new_fc".

    Args:
        keys: canonical key → key.
        shapes: canonical key → shape.
    """
    if "fc.weight" not in shapes:
        return "no head"
    return f"{shapes['fc.weight'][0]} classes in {keys['fc.weight'].removesuffix('.weight')}"


def stage_fields(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """Fields of a network of bottlenecks that the shapes of its arrays show.

    They are its size, and the classes of its head if it has one.

    Args:
        shapes: canonical key → shape.
    """
    sizes = stage_sizes(shapes)
    depth = next((depth for depth, blocks in STAGE_SIZES.items() if blocks == sizes), None)
    fields: dict[str, Any] = {"depth": depth} if depth else {"stage_sizes": sizes}
    if stem := shapes.get("conv1.weight"):
        fields |= {"width": stem[0], "stem": "small" if stem[-1] == 3 else "imagenet"}
    if "fc.weight" in shapes:
        fields["num_classes"] = shapes["fc.weight"][0]
    return fields


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
    """Notes on how the network of the weights differs: shapes show all differences."""
    del fields, model
    return ()
