"""Attention between all positions of a clip, as non-local blocks have it."""

import jax
import jax.numpy as jnp

from aia_jax.ops.frames import CLIPS, time_parts
from aia_jax.shapes import Array, Float


def attend_clip(
    queries: Float[Array, "b t h w c"],
    keys: Float[Array, "b t h2 w2 c"],
    values: Float[Array, "b t h2 w2 v"],
) -> Float[Array, "b t h w v"]:
    """Averages the values of a clip for every position, weighted by softmax(query · key).

    The softmax is over T, H and W together and has no scale: the embedded Gaussian of non-local
    networks (Wang et al. 2018, Eq. 3). Logits and softmax are float32 (float64 for float64),
    [B, T·H·W, T·h2·w2]; the gradient stores the softmax. Where a mesh splits the frames a device
    has the queries of its own frames and gathers the keys and values of the others.
    """
    if time_parts() == 1:
        return _attend(queries, keys, values)

    def attend_own_frames(queries: Array, keys: Array, values: Array) -> Array:
        keys, values = (
            jax.lax.all_gather(array, "time", axis=1, tiled=True) for array in (keys, values)
        )
        return _attend(queries, keys, values)

    return jax.shard_map(attend_own_frames, in_specs=CLIPS, out_specs=CLIPS)(queries, keys, values)


def _attend(queries: Array, keys: Array, values: Array) -> Array:
    dtype = jnp.promote_types(queries.dtype, jnp.float32)
    rows, columns, columns_values = (
        array.reshape(array.shape[0], -1, array.shape[-1]) for array in (queries, keys, values)
    )
    logits = jnp.einsum("bnc,bmc->bnm", rows, columns, preferred_element_type=dtype)
    weights = jax.nn.softmax(logits).astype(values.dtype)
    means = jnp.einsum("bnm,bmv->bnv", weights, columns_values)
    return means.reshape(*queries.shape[:-1], values.shape[-1])
