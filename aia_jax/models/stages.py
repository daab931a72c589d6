"""What the networks that are made of stages of bottlenecks share: sizes, checks, the start."""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from aia_jax.models.fields import require
from aia_jax.shapes import Array

STAGE_SIZES = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}  # depth: bottlenecks of each stage
STEMS = ("imagenet", "small")  # kinds of the first layers (`resnet.stem.Stem`)
EXPANSION = 4  # a bottleneck returns four times as many channels as its width

# The optimiser's groups of TSN's code and of those that follow it: biases learn twice as fast, and
# neither they nor BatchNorm decay.
OPTIM_GROUPS = (
    (r".*/kernel", {"lr": 1.0, "decay": 1.0}),
    (r".*bn\d?/(scale|bias)", {"lr": 1.0, "decay": 0.0}),
    (r".*/bias", {"lr": 2.0, "decay": 0.0}),
)

# Partial BatchNorm freezes the layers of the bottlenecks; the stem's, the first one, is trained.
PARTIAL_BN_FROZEN = r"stage\d+_block\d+/(bn\d|shortcut_bn)/(scale|bias)"

# He initialisation by fan-out, as torchvision starts its ResNets.
he_normal = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


def uniform_as_torch(fan_in: int) -> Callable[..., Array]:
    """The start of biases of PyTorch's convolutions and linear layers: ±1/√fan_in, uniformly."""

    def draw(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
        bound = fan_in**-0.5
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return draw


def stage_layers(stages: Sequence[int], start: str = "stem/.*") -> tuple[str, ...]:
    """`layer_paths` of a network of stages: its start, each bottleneck, the head.

    Args:
        stages: bottlenecks of each stage.
        start: a regular expression for the paths of all that comes before the bottlenecks.
    """
    blocks = [
        f"stage{stage}_block{block}/.*"
        for stage, count in enumerate(stages, 1)
        for block in range(count)
    ]
    return start, *blocks, "head/.*"


def describe_depth(model: Any) -> str:
    """A text such as "ResNet-50", or "ResNet with stages of 1-1 blocks"."""
    blocks = "-".join(map(str, model.stage_sizes))
    return f"ResNet with stages of {blocks} blocks" if blocks else f"ResNet-{model.depth}"


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
