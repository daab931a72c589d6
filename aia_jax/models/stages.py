"""What the networks that are made of stages of bottlenecks share: sizes, checks, the start."""

from typing import Any

import flax.linen as nn

from aia_jax.models.fields import require

STAGE_SIZES = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}  # depth: bottlenecks of each stage
EXPANSION = 4  # a bottleneck returns four times as many channels as its width

# He initialisation by fan-out, as torchvision starts its ResNets.
he_normal = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


def check_stages(model: Any) -> None:
    """Checks the fields that all networks of stages have, alone and with one another.

    Args:
        model: has `dropout`, `width`, `stage_sizes`, `depth`, `bn_group_size` and `remat`.

    Raises:
        FieldError: for the first value with which there is no network.
    """
    require(0 <= model.dropout < 1, "dropout", model.dropout, "from 0 up to, not including, 1")
    require(model.width >= 1, "width", model.width, "at least 1")
    # Beyond these limits sizes have more than 64 bits, or nobody lives to see the first step.
    require(model.width <= 2**16, "width", model.width, "at most 65,536")
    sizes = model.stage_sizes
    require(all(size >= 1 for size in sizes), "stage_sizes", sizes, "whole numbers from 1")
    fits = len(sizes) <= 8 and sum(sizes) <= 1000
    require(fits, "stage_sizes", sizes, "at most 8 stages and 1,000 blocks")
    require(model.bn_group_size >= 0, "bn_group_size", model.bn_group_size, "at least 0")
    depths = " or ".join(map(str, STAGE_SIZES))
    require(bool(sizes) or model.depth in STAGE_SIZES, "depth", model.depth, depths)
    count = len(sizes or STAGE_SIZES[model.depth])
    expected = f"stages from 1 to {count}"
    fits = all(stage in range(1, count + 1) for stage in model.remat)
    require(fits, "remat", model.remat, expected)
