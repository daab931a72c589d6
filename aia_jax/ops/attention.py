"""Attention between the tokens of a frame, in the form that the device has for it."""

import functools
import math

import jax
import jax.numpy as jnp

from aia_jax.ops.triton.availability import use_cudnn_attention
from aia_jax.shapes import Array, Float


def attention(
    query: Float[Array, "n s h d"], key: Float[Array, "n s h d"], value: Float[Array, "n s h d"]
) -> Float[Array, "n s h d"]:
    """Computes softmax(q·kᵀ/√d)·v for every row and head (Vaswani et al. 2017, equation 1).

    Scores and softmax are float32 for operands in half precision too, and float64 for float64. On
    an NVIDIA GPU half precision runs in cuDNN's flash attention, which writes no scores to memory.
    All else runs in XLA's operations, which write them, [n, h, s, s].

    Args:
        query: rows of frames, tokens, heads and channels of a head.
        key: likewise.
        value: likewise.

    Returns:
        The heads' results in the operands' dtype.
    """
    if query.dtype == jnp.float64:
        return _in_float64(query, key, value)
    xla = functools.partial(jax.nn.dot_product_attention, implementation="xla")
    if not use_cudnn_attention(query):
        return xla(query, key, value)
    # A program that is lowered for another device than the default one takes XLA's form.
    return jax.lax.platform_dependent(query, key, value, cuda=_in_cudnn, default=xla)


def _in_cudnn(query: Array, key: Array, value: Array) -> Array:
    """Adds a token that nobody sees to an odd number of them: cuDNN has no gradient of those."""
    rows, tokens = query.shape[:2]
    lengths = None
    if tokens % 2:
        lengths = jnp.full(rows, tokens, jnp.int32)
        query, key, value = (
            jnp.pad(x, ((0, 0), (0, 1), (0, 0), (0, 0))) for x in (query, key, value)
        )
    result = jax.nn.dot_product_attention(
        query,
        key,
        value,
        query_seq_lengths=lengths,
        key_value_seq_lengths=lengths,
        implementation="cudnn",
    )
    return result[:, :tokens]


def _in_float64(query: Array, key: Array, value: Array) -> Array:
    """JAX's function rounds the scores of float64 to float32, so this is the definition itself."""
    scores = jnp.einsum("nqhd,nkhd->nhqk", query, key) / math.sqrt(query.shape[-1])
    return jnp.einsum("nhqk,nkhd->nqhd", jax.nn.softmax(scores), value)
