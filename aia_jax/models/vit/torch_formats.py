"""Writes a ViT with the names of other programs, so that their own networks load it.

`python -m aia_jax.weights --format` names the program. What it has no network for is refused.
"""

import re
from collections.abc import Mapping

import flax.linen as nn
import numpy as np

from aia_jax.errors import UserError
from aia_jax.models.vit.torch_sources import (
    FUSED,
    HUGGING_FACE,
    KEY,
    QUERY,
    TIMM,
    TORCHVISION,
    VALUE,
    Source,
    key_of_source,
)

# Program → source of its names.
FORMATS: Mapping[str, Source] = {
    "torchvision": TORCHVISION,
    "timm": TIMM,
    "transformers": HUGGING_FACE,
}

_PARTS = [template.rpartition("attn.")[2] for template in (QUERY, KEY, VALUE)]  # "query." …


def to_format(
    arrays: Mapping[str, np.ndarray], model: nn.Module, format_name: str
) -> dict[str, np.ndarray]:
    """The state dict of a program's own network.

    Args:
        arrays: canonical key → array in torch's order of axes, of the whole network.
        model: the network.
        format_name: the program's, one of `FORMATS`.

    Raises:
        UserError: the program has no such network; says what it lacks.
    """
    source, lack = FORMATS[format_name], None
    if model.shift != "none":
        lack = f"its frames do not meet (model.shift={model.shift})"
    elif source is TORCHVISION and model.image_size[0] != model.image_size[1]:
        lack = "its pictures are square (model.image_size={},{})".format(*model.image_size)
    if lack:
        raise UserError(
            f"{format_name} has no network for {model.describe()}: {lack}; the format aia writes "
            "the names of the authors' own network"
        )
    if FUSED in source.keys.values():
        arrays = _fuse(arrays)
    return {key_of_source(key, source): value for key, value in arrays.items()}


def _fuse(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same arrays with queries, keys and values in one, at the place of the queries."""
    fused = {}
    for key, value in arrays.items():
        match = re.search(r"\.attn\.(query|key|value)\.", key)
        if match is None:
            fused[key] = value
        elif match[1] == "query":
            parts = [arrays[key.replace(_PARTS[0], part)] for part in _PARTS]
            fused[key.replace(_PARTS[0], "qkv.")] = np.concatenate(parts)
    return fused
