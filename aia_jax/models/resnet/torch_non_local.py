"""How TSM's released code names the non-local blocks, and what a state dict's keys say about them.

That code wraps a bottleneck and the block that follows it in a module. Then
`layer2.0.block.conv2.weight` is the bottleneck's, and `layer2.0.nl.theta.weight` the non-local
block's. Networks without such blocks have no `block.`, so it is no part of a canonical key.

mmaction2 does likewise, and its last convolution there has no bias, since a BatchNorm follows it.
"""

import re
from collections.abc import Iterable
from typing import Any

import flax.linen as nn
import numpy as np

from aia_jax.errors import UserError
from aia_jax.models.resnet.placement import has_non_local
from aia_jax.models.resnet.torch_sources import tsm_key
from aia_jax.models.torch_keys import CONV2D_OF_CLIPS, VECTOR, Row, batch_norm_rows

_CONVOLUTIONS = {"theta": "theta", "phi": "phi.0", "g": "g.0", "out": "W.0"}  # ours → theirs


def non_local_rows(block: str, torch_block: str) -> list[Row]:
    """Rows of a network's table for its non-local blocks.

    Args:
        block: the pattern of a bottleneck's path.
        torch_block: the same bottleneck's canonical key.
    """
    rows = batch_norm_rows(f"{block}/non_local/out_bn", f"{torch_block}.nl.W.1")
    for ours, theirs in _CONVOLUTIONS.items():
        path, key = f"params/{block}/non_local/{ours}", f"{torch_block}.nl.{theirs}"
        rows += [
            (f"{path}/kernel", f"{key}.weight", CONV2D_OF_CLIPS),
            (f"{path}/bias", f"{key}.bias", VECTOR),
        ]
    return rows


def add_biases(rows: list[tuple[str, str, np.ndarray]]) -> list[tuple[str, str, np.ndarray]]:
    """Rows of `entries`, with zeros for the biases that mmaction2's non-local blocks do not have.

    A row of zeros has the key of the kernel beside it.
    """
    names = {name for name, _, _ in rows}
    added = []
    for name, key, value in rows:
        bias = name.removesuffix("weight") + "bias"
        if name.endswith(".nl.W.0.weight") and ".conv_out." in key and bias not in names:
            added.append((bias, key, np.zeros(np.shape(value)[:1], np.float32)))
    return [*rows, *added]


def wrap(key: str) -> str:
    """A canonical key of a network with non-local blocks, with the wrapper's `block.`."""
    match = re.match(r"layer(\d+)\.(\d+)\.(?!nl\.)", key)
    if match and has_non_local(int(match[1]) - 1, int(match[2])):
        return f"{match[0]}block.{key.removeprefix(match[0])}"
    return key


def shown_non_local(keys: Iterable[str]) -> dict[str, Any]:
    """{"non_local": True} where a state dict's keys show non-local blocks; else {}.

    Raises:
        UserError: the blocks follow other bottlenecks than in any network here.
    """
    keys = list(keys)
    matches = [re.match(r"layer(\d+)\.(\d+)\.(nl\.)?", tsm_key(key)) for key in keys]
    blocks = {(int(match[1]) - 1, int(match[2]), bool(match[3])) for match in matches if match}
    found = {(stage, block) for stage, block, is_non_local in blocks if is_non_local}
    if not found:
        return {}
    expected = {(stage, block) for stage, block, _ in blocks if has_non_local(stage, block)}
    if found != expected:
        raise UserError(
            f"the file's network has non-local blocks behind {_places(found)} "
            f"({_first(keys)}); the networks here have them behind {_places(expected)}"
        )
    return {"non_local": True}


def non_local_contradiction(keys: Iterable[str], model: nn.Module) -> str | None:
    """A line where a state dict's keys show non-local blocks and `model` has none; else None."""
    keys = list(keys)
    try:
        shown = shown_non_local(keys)
    except UserError as error:
        return str(error)
    if not shown or model.non_local:
        return None
    return (
        f"non-local blocks: by its keys ({_first(keys)}) the file's network has them and this net "
        "has none; add --config.model.non_local=true"
    )


def _first(keys: Iterable[str]) -> str:
    return next(key for key in keys if ".nl." in tsm_key(key))


def _places(places: Iterable[tuple[int, int]]) -> str:
    return ", ".join(f"layer{stage + 1}.{block}" for stage, block in sorted(places))
