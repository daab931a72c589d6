"""How C3D's arrays are called in PyTorch's checkpoints, and how their axes lie there.

No checkpoint of the papers' C3D is public. Its names here are torchvision's of a ResNet, and only
`conv2` has the kernel of a 3-D convolution. Kernels [out, in, 1, h, w], of a network whose other
convolutions are 3-D ones too, load as well. A start from a plain ResNet is inflated (`entries`).
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
)
from aia_jax.models.torch_keys import CONV2D, CONV3D, Row, is_counter

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

_FRAMES = 3  # of a kernel
_CONV2 = rf"{IN_BLOCK}conv2\.weight"


def table(model: nn.Module) -> list[Row]:
    """(pattern of a variable's path, its canonical key, axes), for every variable of a network."""
    del model  # the same for all of the family
    conv2 = (f"params/{BLOCK}/conv2/kernel", f"{TORCH_BLOCK}.conv2.weight", CONV3D)
    return [*bottleneck_rows(CONV2D, convolutions="[13]"), conv2]


def entries(
    state_dict: Mapping[str, np.ndarray], model: nn.Module
) -> list[tuple[str, str, np.ndarray]]:
    """(canonical key, key, array) for every array of a state dict that a variable may come from.

    A plain ResNet's `conv2` [out, in, h, w] is inflated as in I3D (Carreira & Zisserman 2017,
    Section 2.4): repeated for the three frames of the kernel and divided by three, so that a clip
    of equal frames has the ResNet's features, but for its first and last frame, beyond which there
    are zeros. Other kernels lose an axis of frames of size 1.
    """
    del model
    rows = []
    for key, value in state_dict.items():
        if is_counter(key):
            continue
        name = canonical_key(key)
        if re.fullmatch(_CONV2, name):
            if np.ndim(value) == 4:
                value = np.repeat(np.asarray(value, np.float32)[:, :, None] / _FRAMES, _FRAMES, 2)
        elif np.ndim(value) == 5 and np.shape(value)[2] == 1:
            value = np.asarray(value)[:, :, 0]
        rows.append((name, key, value))
    return rows


def reference_key(key: str, model: nn.Module) -> str:
    """torchvision's name, which a canonical key is."""
    del model
    return key


def is_backbone(name: str) -> bool:
    """Whether a variable or a canonical key belongs to the network without its head."""
    return in_backbone(name, others="$")


def optional_module(name: str) -> str | None:
    """There is none."""
    del name
    return None


def recognise(state_dict: Mapping[str, np.ndarray]) -> str | None:
    """Says in a line which network of the family a state dict belongs to; None if to none."""
    keys = {canonical_key(key): key for key in state_dict if not is_counter(key)}
    shapes = {name: np.shape(state_dict[key]) for name, key in keys.items()}
    kernels = [shape for name, shape in shapes.items() if re.fullmatch(_CONV2, name)]
    # GST's conv2 has kernels of one frame.
    if not kernels or any(shape[2:] != (_FRAMES,) * 3 for shape in kernels):
        return None
    return f"a C3D (3-D ResNet): {describe_size(shapes)}, {describe_head(keys, shapes)}"


def propose_fields(state_dict: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Fields of the network that a state dict is of."""
    return stage_fields({canonical_key(key): np.shape(value) for key, value in state_dict.items()})
