"""What PyTorch's checkpoints of several networks have in common: prefixes, axes, BatchNorm, stages.

A *canonical key* is a key without the prefixes and infixes in which the sources of a network
differ: `module.base_model.conv1.net.weight` and `conv1.weight` are both `conv1.weight`.
"""

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

# (pattern of a variable's path, canonical key, axes).
Row = tuple[str, str, tuple[int, ...]]

# For each axis of the variable, the axis of torch's array. Torch's other axes have size 1.
VECTOR = (0,)
DENSE = (1, 0)  # [out, in] → [in, out]
CONV2D = (2, 3, 1, 0)  # [out, in, h, w] → [h, w, in, out]
CONV2D_OF_CLIPS = (3, 4, 1, 0)  # [out, in, 1, h, w] → [h, w, in, out]
CONV3D = (2, 3, 4, 1, 0)  # [out, in, d, h, w] → [d, h, w, in, out]


class Choice(NamedTuple):
    """Stands for a field's value where no array of a state dict shows which it is.

    Attributes:
        values: those of the trained networks that have these arrays; (): any.
    """

    values: tuple[Any, ...]


DEPTHS = {(3, 4, 6, 3): 50, (3, 4, 23, 3): 101, (3, 8, 36, 3): 152}


def batch_norm_rows(ours: str, torchs: str) -> list[Row]:
    """Rows for the four variables of a BatchNorm, from patterns of its path and of its keys."""
    return [
        (f"params/{ours}/scale", f"{torchs}.weight", VECTOR),
        (f"params/{ours}/bias", f"{torchs}.bias", VECTOR),
        (f"batch_stats/{ours}/mean", f"{torchs}.running_mean", VECTOR),
        (f"batch_stats/{ours}/var", f"{torchs}.running_var", VECTOR),
    ]


def canonical_key(key: str) -> str:
    """A key of any known source as the table has it: `module.new_fc.weight` → `fc.weight`."""
    key = re.sub(r"^(module\.)*(base_model\.)?", "", key)
    return re.sub(r"^new_fc\.", "fc.", key).replace(".net.", ".")


def is_counter(key: str) -> bool:
    """Whether a key is BatchNorm's count of batches, which no variable here corresponds to."""
    return key.endswith("num_batches_tracked")


def stage_sizes(names: Iterable[str]) -> tuple[int, ...]:
    """Blocks of each stage: one more than the highest block number in the stage's names."""
    blocks = {
        (int(match[1]), int(match[2]))
        for name in names
        if (match := re.search(r"(?:^|/)(?:layer|stage)(\d+)(?:\.|_block)(\d+)(?=[./])", name))
    }
    return tuple(
        1 + max(block for other, block in blocks if other == stage)
        for stage in sorted({stage for stage, _ in blocks})
    )


def describe_stages(sizes: tuple[int, ...]) -> str:
    """A text such as "ResNet-50 (3-4-6-3 blocks)"."""
    depth = f"-{DEPTHS[sizes]}" if sizes in DEPTHS else ""
    return f"ResNet{depth} ({'-'.join(map(str, sizes))} blocks)"
