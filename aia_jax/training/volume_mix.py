"""What SV-Mix draws in a step, and what it makes of a mask: pixels, labels, a penalty.

Tan et al. 2023, arXiv 2309.09534. A mask is the weight of each clip's partner.
"""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from aia_jax.ops.xla_fusion import at_least_float32
from aia_jax.shapes import Array, Float, Int
from aia_jax.training.mixing import draw_share

_TEMPORAL_ALPHA = 0.8  # λ ~ Beta(α, α) in temporal mode; in spatial mode it is uniform
_CONSTANT_WITHIN = 0.08  # of 0 or 1: there the network's mask is 1 − λ everywhere


class Mix(NamedTuple):
    """λ, the share of the own clip, and the row of each clip's partner."""

    share: Float[Array, ""]
    partner: Int[Array, " b"]


class Draws(NamedTuple):
    """What a step, or a micro-batch of it, draws.

    Attributes:
        temporal: whether masks are temporal or spatial, in mode "both".
        trains_network: the mix whose mask gets no gradient.
        trains_module: the mix that goes through the teacher.
    """

    temporal: Array
    trains_network: Mix
    trains_module: Mix


Draw = Callable[[Array, int], Draws]  # (key, number of clips) → draws


def draw_mixes(mode: str = "both", prob: float = 1.0) -> Draw:
    """How a step draws.

    Args:
        mode: of the module; "both": spatial and temporal are equally likely.
        prob: that the network sees mixed clips. Otherwise λ is 1, and mode "both" is temporal for
            the module, which learns all the same.
    """

    def draw(key: Array, clips: int) -> Draws:
        keys = jax.random.split(key, 7)
        mixed = jax.random.uniform(keys[0]) < prob
        temporal = jnp.asarray(mode == "temporal")
        if mode == "both":
            temporal = (jax.random.uniform(keys[1]) >= 0.5) | ~mixed
        shares = jax.random.uniform(keys[2]), draw_share(keys[3], _TEMPORAL_ALPHA)
        share = jnp.where(mixed, jnp.where(temporal, shares[1], shares[0]), 1.0)
        return Draws(
            temporal,
            Mix(share, jax.random.permutation(keys[5], clips)),
            Mix(jax.random.uniform(keys[4]), jax.random.permutation(keys[6], clips)),
        )

    return draw


def hold_near_ends(mask: Float[Array, "b t h w"], share: Float[Array, ""]) -> Array:
    """1 − λ everywhere where λ is within 0.08 of 0 or 1, else the mask."""
    constant = (share <= _CONSTANT_WITHIN) | (1 - share <= _CONSTANT_WITHIN)
    return jnp.where(constant, (1 - share).astype(mask.dtype), mask)


def mix_targets(
    targets: Float[Array, "b k"], share: Array, partner: Int[Array, " b"]
) -> Float[Array, "b k"]:
    """Shares of the classes of mixed clips.

    Args:
        targets: of the clips.
        share: of the own label: a scalar or [B].
        partner: the row of each clip's partner.
    """
    share = jnp.asarray(share).reshape(-1, 1)
    return share * targets + (1 - share) * targets[partner]


def size_penalty(mask: Float[Array, "b t h w"], share: Float[Array, ""]) -> Float[Array, ""]:
    """The loss of masks that leave another share of the clips than λ: |1 − mean − λ| above 0.1.

    Args:
        mask: the weight of the partner.
        share: λ.
    """
    return 0.1 * jnp.maximum(0.0, jnp.abs(1 - mask.mean() - share) - 0.1)


def salient_share(
    features: Float[Array, "b t h w c"],
    mask: Float[Array, "b t h w"],
    partner: Int[Array, " b"],
) -> Float[Array, " b"]:
    """The share of the own label of each mixed clip: how much of what is salient is its own.

    The saliency of a position is the softmax, over all positions of its clip, of the features' mean
    over channels. A mask that is constant gives its own constant.

    Args:
        features: the last feature map of every clip.
        mask: the weight of the partner at every position.
        partner: the row of each clip's partner.
    """
    means = at_least_float32(features).mean(-1)
    saliency = nn.softmax(means, axis=(1, 2, 3))
    own = (saliency * (1 - mask)).sum((1, 2, 3))
    others = (saliency[partner] * mask).sum((1, 2, 3))
    return own / (own + others)


def spread_mask(mask: Float[Array, "b t h w"], shape: tuple[int, int, int]) -> Array:
    """Repeats a mask of feature size over frames and pixels: nearest, [B, frames, H, W, 1].

    Where a position is not a whole number of pixels, pixel i belongs to position ⌊i·h/H⌋, as in
    torch's interpolation. A segment of several frames has one map, which all of them get.

    Args:
        mask: of feature size.
        shape: frames, height and width of the clips.
    """
    for axis, size in enumerate(shape, 1):
        positions = mask.shape[axis]
        if size % positions == 0:
            # A repetition whose gradient is a sum over blocks.
            mask = jnp.repeat(mask, size // positions, axis)
        else:
            mask = jnp.take(mask, jnp.arange(size) * positions // size, axis)
    return mask[..., None]
