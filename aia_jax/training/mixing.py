"""Mixup, CutMix and VideoMix: training clips mixed with one another, and their labels alike."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from aia_jax.errors import UserError
from aia_jax.shapes import Array, Float

Clips = Float[Array, "b t h w 3"]
Shares = Float[Array, "b k"]
# (clips as the network takes them, shares of the classes, key) → both mixed.
Mix = Callable[[Clips, Shares, Array], tuple[Clips, Shares]]


def make_mix(train: Any) -> Mix | None:
    """The mix of a recipe; None if its clips are not mixed.

    Args:
        train: the config's `train`: `mixup`, `cutmix`, `videomix` (α of Beta(α, α), 0: not this
            one) and `mix_prob`.

    Returns:
        `mix(clips, shares, key)` for clips [B, T, H, W, 3] and their shares of the classes [B, K].
        Row i is mixed with row i − 1, the first with the last: the order of a batch is random, and
        neighbours lie on one device or on the next. Which mix it is, whether there is one, λ and
        the box are drawn once for all rows, from the key alone.

    Raises:
        UserError: a batch, or a part of it, holds one clip only.
    """
    chosen = _chosen(train)
    if not chosen:
        return None
    rows = train.batch_size // train.accumulate
    if rows < 2:
        name, alpha = next(iter(chosen.items()))
        parts = f" in {train.accumulate} parts (train.accumulate)" if train.accumulate > 1 else ""
        raise UserError(
            f"config key train.{name}: found {alpha} with train.batch_size="
            f"{train.batch_size}{parts}, which leaves no other clip to mix with; use at least "
            f"{2 * train.accumulate} clips a step"
        )

    def mix(clips: Clips, shares: Shares, key: Array) -> tuple[Clips, Shares]:
        alphas = jnp.array([*chosen.values()], jnp.float32)
        which, whether, share_key, place_key = jax.random.split(key, 4)
        index = jax.random.randint(which, (), 0, len(chosen))
        share = draw_share(share_key, alphas[index])
        share = jnp.where(jax.random.uniform(whether) < train.mix_prob, share, 1.0)
        # mask: [T, H, W, 1], of which `share` is the mean.
        each = [_MASKS[name](clips.shape[1:4], share, place_key) for name in chosen]
        mask, share = jax.tree.map(lambda *values: jnp.stack(values)[index], *each)
        mask = mask.astype(clips.dtype)
        return (
            mask * clips + (1 - mask) * jnp.roll(clips, 1, axis=0),
            share * shares + (1 - share) * jnp.roll(shares, 1, axis=0),
        )

    return mix


def describe_mix(train: Any) -> str:
    """The mixes of a recipe in words, for the start table; "" if its clips are not mixed."""
    text = " or ".join(f"{name} with α = {alpha:g}" for name, alpha in _chosen(train).items())
    return f"{text}, in {train.mix_prob:.0%} of the steps" if text else ""


def _chosen(train: Any) -> dict[str, float]:
    """The mixes of a recipe, and α of each."""
    return {name: train[name] for name in _MASKS if train[name] > 0 and train.mix_prob > 0}


def draw_share(key: Array, alpha: Array | float) -> Array:
    """λ ~ Beta(α, α), a float32 scalar."""
    # A share X / (X + Y) of two gamma variables, by their logarithms, which no small α makes zero.
    logs = jax.random.loggamma(key, alpha, (2,), jnp.float32)
    return jax.nn.sigmoid(logs[0] - logs[1])


def blend(size: tuple[int, ...], share: Array, key: Array) -> tuple[Array, Array]:
    """Mixup (Zhang et al. 2018): λ of every pixel.

    Args:
        size: [T, H, W] of a clip.
        share: λ, from 0 to 1; 1 leaves clips as they are.
        key: of a box's place.

    Returns:
        How much of a clip stays, float32 [T, H, W, 1], and the mean of it: the label's share.
    """
    return jnp.full((*size, 1), share), share


def cut_box(size: tuple[int, ...], share: Array, key: Array) -> tuple[Array, Array]:
    """CutMix (Yun et al. 2019), one box for all frames: S-VideoMix of Yun et al. 2020.

    The box has √(1 − λ) of the height and of the width. Its centre lies anywhere in the frame and
    its edges may lie outside; the label's share is that of the pixels which it does not cover.
    Arguments and results are as of `blend`.
    """
    return _cut(size, share, key, shortened=(False, True, True))


def cut_cuboid(size: tuple[int, ...], share: Array, key: Array) -> tuple[Array, Array]:
    """VideoMix (Yun et al. 2020), a cuboid in space and time: ST-VideoMix.

    As `cut_box`, with ∛(1 − λ) of the frames, the height and the width.
    """
    return _cut(size, share, key, shortened=(True, True, True))


def _cut(
    size: tuple[int, ...], share: Array, key: Array, shortened: tuple[bool, ...]
) -> tuple[Array, Array]:
    """0 inside a box, 1 outside; `shortened` says along which of T, H, W it is less than whole."""
    ratio = (1 - share) ** (1 / sum(shortened))
    inside, covered = jnp.ones((*size, 1), bool), jnp.ones((), jnp.int32)
    for axis, length in enumerate(size):
        places = jnp.arange(length)
        within = jnp.ones(length, bool)
        if shortened[axis]:
            side = (length * ratio).astype(jnp.int32)
            centre = jax.random.randint(jax.random.fold_in(key, axis), (), 0, length)
            first = centre - side // 2
            within = (places >= first) & (places < first + side)
        covered *= within.sum(dtype=jnp.int32)
        inside &= jnp.expand_dims(within, [other for other in range(4) if other != axis])
    total = math.prod(size)
    outside = (total - covered).astype(jnp.float32) / total
    return jnp.where(inside, 0.0, 1.0), outside


_MASKS = {"mixup": blend, "cutmix": cut_box, "videomix": cut_cuboid}
