"""How GST's arrays are called in PyTorch's checkpoints, and how their axes lie there.

Known sources: the authors' checkpoints, whose kernels are all those of 3-D convolutions; and for a
start the plain ResNets of torchvision and others with its names, as the authors' code takes them.
`aia_jax/weights/names.py` lists what a file like this one offers.
"""

import re
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import numpy as np

from aia_jax.models.resnet.torch_sources import canonical_key
from aia_jax.models.torch_bottlenecks import (
    BLOCK,
    IN_BLOCK,
    SIZE_FIELDS,
    TORCH_BLOCK,
    bottleneck_rows,
    compare_start,
    contradiction,
    describe_head,
    describe_size,
    in_backbone,
    pretrained_source,
    shown_fields,
    stage_fields,
    tsn_key,
)
from aia_jax.models.torch_keys import CONV2D_OF_CLIPS, CONV3D, Row, is_counter

__all__ = [
    "SIZE_FIELDS",
    "compare_start",
    "contradiction",
    "describe_size",
    "entries",
    "is_backbone",
    "optional_module",
    "pretrained_source",
    "propose_fields",
    "recognise",
    "reference_key",
    "shown_fields",
    "table",
]


def table(model: nn.Module) -> list[Row]:
    """(pattern of a variable's path, its canonical key, axes), for every variable of a network."""
    del model  # the same for all of the family
    temporal = f"params/{BLOCK}/temporal_conv2/kernel"
    return [*bottleneck_rows(CONV2D_OF_CLIPS), (temporal, f"{TORCH_BLOCK}.Tconv.weight", CONV3D)]


def entries(
    state_dict: Mapping[str, np.ndarray], model: nn.Module
) -> list[tuple[str, str, np.ndarray]]:
    """(canonical key, key, array) for every array of a state dict that a variable may come from.

    A plain ResNet's kernels [out, in, h, w] get an axis of frames of size 1. Of its `conv2` the
    first outputs and inputs are taken, as many as `conv2` has in `model`; so do the authors.
    """
    rows = []
    for key, value in state_dict.items():
        if is_counter(key):
            continue
        name = canonical_key(key)
        if np.ndim(value) == 4:
            value = np.asarray(value)[:, :, None]
            if re.fullmatch(rf"{IN_BLOCK}conv2\.weight", name):
                outputs, inputs = value.shape[:2]
                value = value[: outputs - outputs // model.alpha, : inputs // model.beta]
        rows.append((name, key, value))
    return rows


def reference_key(key: str, model: nn.Module) -> str:
    """The authors' name of a canonical key; the head is `new_fc` in a network with dropout."""
    return tsn_key(key, model)


def is_backbone(name: str) -> bool:
    """Whether a variable or a canonical key belongs to what a plain ResNet has too.

    The temporal convolutions do not: they start fresh.
    """
    return in_backbone(name, others=r"Tconv\.")


def optional_module(name: str) -> str | None:
    """There is none: a temporal convolution is a single variable."""
    del name
    return None


def recognise(state_dict: Mapping[str, np.ndarray]) -> str | None:
    """Says in a line which network of the family a state dict belongs to; None if to none."""
    keys = {canonical_key(key): key for key in state_dict if not is_counter(key)}
    shapes = {name: np.shape(state_dict[key]) for name, key in keys.items()}
    if _find_temporal(shapes) is None:
        return None
    split = ", ".join(f"model.{name}={size}" for name, size in _find_split(shapes).items())
    split = f" ({split})" if split else ""
    return f"a GST of its authors{split}: {describe_size(shapes)}, {describe_head(keys, shapes)}"


def propose_fields(state_dict: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Fields of the network that a state dict is of."""
    shapes = {canonical_key(key): np.shape(value) for key, value in state_dict.items()}
    return stage_fields(shapes) | _find_split(shapes)


def _find_temporal(shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """The canonical key of the first kernel over three frames; None if there is none."""
    pattern = re.compile(rf"{IN_BLOCK}Tconv\.weight")
    return next((name for name in shapes if pattern.fullmatch(name)), None)


def _find_split(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """The fields `alpha` and `beta` by the shapes of a bottleneck's arrays; {} if they lack one."""
    temporal = _find_temporal(shapes) or ""
    spatial = shapes.get(temporal.replace("Tconv", "conv2"), ())
    width = next(iter(shapes.get(temporal.replace("Tconv.weight", "bn2.weight"), ())), 0)
    if len(spatial) != 5 or width <= spatial[0] or not spatial[1]:
        return {}
    return {"alpha": width // (width - spatial[0]), "beta": width // spatial[1]}
