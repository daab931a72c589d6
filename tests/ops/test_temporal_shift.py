"""The temporal shifts: what moves where, what the ends hold, what cannot be shifted."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aia_jax.ops import shift_heads, temporal_shift


def shift_in_numpy(x: np.ndarray, fold: int) -> np.ndarray:
    y = np.zeros_like(x)
    for t in range(x.shape[1]):
        if t + 1 < x.shape[1]:
            y[:, t, ..., :fold] = x[:, t + 1, ..., :fold]
        if t > 0:
            y[:, t, ..., fold : 2 * fold] = x[:, t - 1, ..., fold : 2 * fold]
        y[:, t, ..., 2 * fold :] = x[:, t, ..., 2 * fold :]
    return y


# One frame, two, and more; channels that move together in one group or in several; none that stay.
@pytest.mark.parametrize(
    ("frames", "channels", "fold_div"),
    [(1, 8, 4), (2, 21, 3), (5, 16, 8), (4, 17, 8), (3, 6, 2), (3, 12, 5), (5, 2, 2)],
)
def test_equals_a_loop_over_frames(frames, channels, fold_div):
    x = np.random.default_rng(0).normal(size=(2, frames, 2, 3, channels)).astype("f4")
    np.testing.assert_array_equal(
        temporal_shift(x, fold_div), shift_in_numpy(x, channels // fold_div)
    )


def test_channels_that_do_not_divide_are_floored():
    x = jnp.arange(3 * 17, dtype=jnp.float32).reshape(1, 3, 1, 1, 17)
    np.testing.assert_array_equal(temporal_shift(x), shift_in_numpy(np.asarray(x), 2))


def test_reversing_time_exchanges_the_two_folds():
    x = np.random.default_rng(1).normal(size=(1, 6, 2, 2, 16)).astype("f4")
    exchanged = np.concatenate([x[..., 2:4], x[..., :2], x[..., 4:]], -1)[:, ::-1]
    y = np.asarray(temporal_shift(x))
    expected = np.concatenate([y[..., 2:4], y[..., :2], y[..., 4:]], -1)[:, ::-1]
    np.testing.assert_array_equal(temporal_shift(exchanged), expected)


def test_the_gradient_is_the_shift_back():
    """A linear map's inner product <shift(x), y> must equal <x, its gradient at y>."""
    x, y = np.random.default_rng(2).normal(size=(2, 1, 4, 2, 2, 16)).astype("f4")
    gradient = jax.grad(lambda v: jnp.vdot(temporal_shift(v), y))(x)
    np.testing.assert_allclose(np.vdot(temporal_shift(x), y), np.vdot(x, gradient), rtol=1e-4)


def test_bfloat16_stays_bfloat16():
    assert temporal_shift(jnp.ones((1, 2, 1, 1, 8), jnp.bfloat16)).dtype == jnp.bfloat16


@pytest.mark.parametrize(
    ("channels", "fold_div", "word"),
    [(7, 8, "7 channels"), (8, 1, "2 or more"), (8, 0, "2 or more")],
)
def test_a_shift_of_nothing_or_of_too_much_is_an_error(channels, fold_div, word):
    with pytest.raises(ValueError, match=word):
        temporal_shift(jnp.zeros((1, 2, 1, 1, channels)), fold_div)


# One frame, and more; one head each way, two, and all of them.
@pytest.mark.parametrize(
    ("frames", "heads", "moving"), [(1, 4, 1), (3, 5, 1), (4, 6, 2), (3, 4, 2)]
)
def test_heads_move_as_in_a_loop_over_frames(frames, heads, moving):
    x = np.random.default_rng(0).normal(size=(2, frames, 3, heads, 2)).astype("f4")
    expected = x.copy()
    expected[..., :moving, :] = expected[..., heads - moving :, :] = 0
    for t in range(frames):
        if t + 1 < frames:
            expected[:, t, :, :moving] = x[:, t + 1, :, :moving]
        if t > 0:
            expected[:, t, :, heads - moving :] = x[:, t - 1, :, heads - moving :]
    np.testing.assert_array_equal(shift_heads(x, moving), expected)


@pytest.mark.parametrize("moving", [0, 3])
def test_more_heads_than_there_are_cannot_move(moving):
    with pytest.raises(ValueError, match=f"moving={moving} of 5 heads.*at most 2"):
        shift_heads(jnp.zeros((1, 2, 3, 5, 2)), moving)
