"""TSM's temporal shift."""

import functools

import jax
import jax.numpy as jnp

from aia_jax.shapes import Array, Float

_AT_START = ((0, 0), (1, 0), (0, 0), (0, 0), (0, 0))
_AT_END = ((0, 0), (0, 1), (0, 0), (0, 0), (0, 0))


@functools.partial(jax.jit, static_argnames="fold_div")
def temporal_shift(x: Float[Array, "b t h w c"], fold_div: int = 8) -> Float[Array, "b t h w c"]:
    """Lets every frame see a part of its neighbours: TSM's shift (Lin et al. 2019, Fig. 2b).

    The first `c // fold_div` channels of frame t come from t + 1, the next as many from t - 1, the rest stay. Frames
    beyond the ends are zero, so the op is linear and needs no parameters.

    Raises:
        ValueError: if `fold_div` leaves no channel to shift, or more than there are.
    """
    channels = x.shape[-1]
    if fold_div < 2:
        raise ValueError(f"fold_div={fold_div} would shift more channels than there are; use 2 or more (TSM uses 8)")
    fold = channels // fold_div
    if fold == 0:
        raise ValueError(f"fold_div={fold_div} leaves nothing to shift in {channels} channels; use at most {channels}")
    later = jnp.pad(x[:, 1:, ..., :fold], _AT_END)  # t takes t + 1
    earlier = jnp.pad(x[:, :-1, ..., fold : 2 * fold], _AT_START)  # t takes t - 1
    return jnp.concatenate([later, earlier, x[..., 2 * fold :]], axis=-1)
