"""Attention over a clip against its definition."""

import jax
import jax.numpy as jnp
import numpy as np

from aia_jax.ops.clip_attention import attend_clip


def draw(scale, *shape):
    return np.random.default_rng(sum(shape)).normal(0, scale, shape)


def by_definition(queries, keys, values):
    """One position after another."""
    out = np.zeros((*queries.shape[:-1], values.shape[-1]))
    for b, t, h, w in np.ndindex(queries.shape[:-1]):
        weights = np.exp(keys[b] @ queries[b, t, h, w])
        out[b, t, h, w] = (weights[..., None] * values[b]).sum((0, 1, 2)) / weights.sum()
    return out


def test_every_position_sees_all_others_of_its_clip():
    queries, keys, values = draw(1, 2, 3, 4, 5, 6), draw(1, 2, 3, 2, 2, 6), draw(1, 2, 3, 2, 2, 7)
    with jax.enable_x64(True):
        found = attend_clip(*map(jnp.asarray, (queries, keys, values)))
        assert found.dtype == jnp.float64
        np.testing.assert_allclose(found, by_definition(queries, keys, values), rtol=1e-12)


def test_the_softmax_of_half_precision_is_float32():
    """Logits around 100 have steps of 0.5 in bfloat16: weights would be wrong by half."""
    queries, keys, values = (
        jnp.asarray(draw(scale, *shape), jnp.bfloat16)
        for scale, shape in [(4, (1, 2, 4, 4, 32)), (4, (1, 2, 2, 2, 32)), (1, (1, 2, 2, 2, 8))]
    )
    found = attend_clip(queries, keys, values)
    assert found.dtype == jnp.bfloat16
    expected = by_definition(*(np.asarray(a, np.float64) for a in (queries, keys, values)))
    assert np.abs(np.asarray(found, np.float64) - expected).max() < 0.02 * np.abs(expected).max()
