"""Frame indices: the reference's, number for number, and what holds for every video."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aia_jax.data.sampling import PROTOCOLS, frame_indices
from tests.helpers.paths import GOLDEN

GOLDEN = json.loads((GOLDEN / "aia_frame_indices.json").read_text())
CLIPS = {"random": 1, "center": 1, "twice": 2, "dense10": 10}


def test_golden_indices():
    for key, one_based in GOLDEN.items():
        protocol, num_frames, num_available = key.split("|")
        indices = frame_indices(int(num_available), int(num_frames), protocol)
        np.testing.assert_array_equal(indices.ravel() + 1, one_based, err_msg=key)


@settings(deadline=None)
@given(st.integers(1, 3000), st.integers(1, 100), st.sampled_from(PROTOCOLS), st.integers(0, 2**32))
def test_indices_lie_in_the_video(num_available, num_frames, protocol, seed):
    indices = frame_indices(num_available, num_frames, protocol, np.random.default_rng(seed))
    assert indices.shape == (CLIPS[protocol], num_frames)
    assert indices.dtype == np.int64
    assert indices.min() >= 0
    assert indices.max() < num_available
    if protocol != "dense10":  # which wraps round
        assert (np.diff(indices, axis=1) >= 0).all()


@settings(deadline=None)
@given(st.integers(1, 500), st.integers(1, 32), st.integers(0, 2**32))
def test_random_takes_one_frame_of_each_segment(num_available, num_frames, seed):
    indices = frame_indices(num_available, num_frames, "random", np.random.default_rng(seed))[0]
    step = num_available // num_frames
    if step == 0:
        np.testing.assert_array_equal(
            indices, frame_indices(num_available, num_frames, "center")[0]
        )
    else:
        offsets = indices - np.arange(num_frames) * step
        assert ((offsets >= 0) & (offsets < step)).all()


def test_random_is_uniform_within_each_segment():
    rng = np.random.default_rng(0)
    draws = np.concatenate(
        [frame_indices(43, 8, "random", rng) for _ in range(4000)]
    ) - 5 * np.arange(8)
    share = np.stack([(draws == offset).mean(axis=0) for offset in range(5)])
    np.testing.assert_allclose(share, 0.2, atol=0.03)  # 4.7 standard deviations
    assert abs(np.corrcoef(draws.T) - np.eye(8)).max() < 0.1  # every segment draws its own


def test_same_rng_same_indices():
    first, second = (frame_indices(90, 8, "random", np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((10, 8, "centre"), r"unknown protocol 'centre'; valid: random, center, twice, dense10"),
        ((10, 8, "random"), "needs rng"),
        ((0, 8, "center"), "at least 1 frame, this one has 0"),
        ((10, 0, "center"), "num_frames=0"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        frame_indices(*arguments)
