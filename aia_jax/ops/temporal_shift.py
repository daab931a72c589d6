"""The temporal shift of TSM, which lets frames exchange channels."""

import functools
import math

import jax
import jax.numpy as jnp

from aia_jax.shapes import Array, Float


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
    frame = jnp.arange(x.shape[1])[:, None, None, None, None]
    group = jnp.arange(channels // group_size)[:, None]
    later = jnp.where(frame < x.shape[1] - 1, jnp.roll(grouped, -1, axis=1), 0)
    earlier = jnp.where(frame > 0, jnp.roll(grouped, 1, axis=1), 0)
    moving = fold // group_size  # groups that move one way
    return jnp.where(
        group < moving, later, jnp.where(group < 2 * moving, earlier, grouped)
    ).reshape(x.shape)
