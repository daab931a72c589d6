"""Temporal shifts, which let frames exchange channels (TSM, TokShift) or heads (MSCA)."""

import functools
import math

import jax
import jax.numpy as jnp

from aia_jax.ops.frames import CLIPS, exchange_borders, time_parts
from aia_jax.shapes import Array, Float

_UNPADDED = ((0, 0),) * 4  # the axes B, T, H and W
_Groups = tuple[int, int]  # the first group of channels, and the one after the last


@functools.partial(jax.jit, static_argnames="fold_div")
def temporal_shift(x: Float[Array, "b t h w c"], fold_div: int = 8) -> Float[Array, "b t h w c"]:
    """Lets every frame see a part of its neighbours: TSM's shift (Lin et al. 2019, Fig. 2b).

    The first `c // fold_div` channels of frame t come from t + 1, the next as many from t - 1, the
    rest stay. Frames beyond the ends are zero, so the op is linear and needs no parameters.

    Raises:
        ValueError: if `fold_div` leaves no channel to shift, or more than there are.
    """
    channels = x.shape[-1]
    if fold_div < 2:
        raise ValueError(
            f"fold_div={fold_div} would shift more channels than there are; use 2 or more (TSM "
            "uses 8)"
        )
    fold = channels // fold_div
    if fold == 0:
        raise ValueError(
            f"fold_div={fold_div} leaves nothing to shift in {channels} channels; use at most "
            f"{channels}"
        )
    # Every element is chosen from three: itself, the later and the earlier frame's. As a choice
    # this is one pass over x; concatenating three shifted parts would take two, one for the parts
    # and one for the whole (docs/experiments.md, "Temporal shift: padded slices"). The channels are
    # split into groups that move together, so that the choice is made once for a group and only the
    # chosen group is read.
    group_size = math.gcd(fold, channels)
    grouped = x.reshape(*x.shape[:-1], -1, group_size)  # [B, T, H, W, groups, group_size]
    moving = fold // group_size  # groups that move one way
    return _shift_groups(grouped, (0, moving), (moving, 2 * moving)).reshape(x.shape)


@functools.partial(jax.jit, static_argnames="moving")
def shift_heads(x: Float[Array, "b t n h d"], moving: int = 1) -> Float[Array, "b t n h d"]:
    """Takes some heads from the frames beside: MSCA's shift (Hashiguchi & Tamaki 2022).

    The first `moving` heads of frame t come from t + 1, the last `moving` from t - 1, the rest
    stay. Frames beyond the ends are zero, so the op is linear and needs no parameters.

    Args:
        x: queries, keys or values, [B, T, N, heads, C/heads].
        moving: heads that move each way.

    Raises:
        ValueError: if there are not so many heads, or none is to move.
    """
    heads = x.shape[-2]
    if not 1 <= moving <= heads // 2:
        raise ValueError(
            f"moving={moving} of {heads} heads each way; use at least 1 and at most {heads // 2}"
        )
    grouped = x[:, :, :, None]  # [B, T, N, 1, heads, C/heads]
    return _shift_groups(grouped, (0, moving), (heads - moving, heads))[:, :, :, 0]


def _shift_groups(grouped: Array, from_later: _Groups, from_earlier: _Groups) -> Array:
    """Shifts some groups of the frames [B, T, H, W, groups, group_size]; the others stay.

    Args:
        grouped: frames.
        from_later: the groups that come from the frame after.
        from_earlier: the groups that come from the frame before.
    """
    if time_parts() > 1:
        return _shift_on_mesh(grouped, from_later, from_earlier)
    frame = jnp.arange(grouped.shape[1])[:, None, None, None, None]
    later = jnp.where(frame < grouped.shape[1] - 1, jnp.roll(grouped, -1, axis=1), 0)
    earlier = jnp.where(frame > 0, jnp.roll(grouped, 1, axis=1), 0)
    return _choose(grouped, later, earlier, from_later, from_earlier)


def _choose(
    grouped: Array, later: Array, earlier: Array, from_later: _Groups, from_earlier: _Groups
) -> Array:
    """Takes each group from the frame after, from the frame before, or as it is."""
    group = jnp.arange(grouped.shape[-2])[:, None]
    is_later = (group >= from_later[0]) & (group < from_later[1])
    is_earlier = (group >= from_earlier[0]) & (group < from_earlier[1])
    return jnp.where(is_later, later, jnp.where(is_earlier, earlier, grouped))


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _shift_on_mesh(grouped: Array, from_later: _Groups, from_earlier: _Groups) -> Array:
    """Does the same with frames that a mesh splits over `time`.

    Neighbours exchange the moving groups of the first and last frames that they hold.
    """
    count = grouped.shape[-2]

    def pad(channels: Array, groups: _Groups) -> Array:
        return jnp.pad(channels, (*_UNPADDED, (groups[0], count - groups[1]), (0, 0)))

    def shift_own_frames(grouped: Array) -> Array:
        following, preceding = exchange_borders(
            grouped[:, :1, ..., slice(*from_later), :],
            grouped[:, -1:, ..., slice(*from_earlier), :],
        )
        later = jnp.concatenate([grouped[:, 1:], pad(following, from_later)], 1)
        earlier = jnp.concatenate([pad(preceding, from_earlier), grouped[:, :-1]], 1)
        return _choose(grouped, later, earlier, from_later, from_earlier)

    return jax.shard_map(shift_own_frames, in_specs=CLIPS, out_specs=CLIPS)(grouped)


def _forward(grouped: Array, from_later: _Groups, from_earlier: _Groups) -> tuple[Array, None]:
    return _shift_on_mesh(grouped, from_later, from_earlier), None


def _backward(from_later: _Groups, from_earlier: _Groups, _: None, dy: Array) -> tuple[Array]:
    """Returns every channel's gradient to the frame that the channel came from."""
    return (_shift_on_mesh(dy, from_earlier, from_later),)


_shift_on_mesh.defvjp(_forward, _backward)
