"""Frame indices: the reference's, number for number, even ones, and what holds for every video."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aia_jax.data.augment import TrainTransform
from aia_jax.data.sampling import PROTOCOLS, frame_indices, short_video_notes
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
        ((10, 8, "center", None, "even"), "unknown sampling 'even'; valid: reference, uniform"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        frame_indices(*arguments)


@settings(deadline=None)
@given(st.integers(1, 3000), st.integers(1, 100), st.sampled_from(PROTOCOLS), st.integers(0, 2**32))
def test_uniform_sampling_never_wraps_round(num_available, num_frames, protocol, seed):
    rng = np.random.default_rng(seed)
    indices = frame_indices(num_available, num_frames, protocol, rng, "uniform")
    assert indices.shape == (CLIPS[protocol], num_frames) and indices.dtype == np.int64
    assert indices.min() >= 0 and indices.max() < num_available
    assert (np.diff(indices, axis=1) >= 0).all()
    if protocol in ("center", "twice") or (
        protocol == "dense10" and num_frames <= 64 < num_available
    ):
        np.testing.assert_array_equal(indices, frame_indices(num_available, num_frames, protocol))


@pytest.mark.parametrize(("length", "seen"), [(12, 12), (15, 15), (16, 16), (43, 43), (5, 5)])
def test_uniform_training_sees_every_frame_of_a_short_video_equally_often(length, seen):
    """The reference sees 8 of 12 or 15 frames, the first ones, whatever is drawn."""
    rng = np.random.default_rng(0)
    transform = TrainTransform(8, 24, np.arange(3), sampling="uniform")
    draws = np.stack([transform.draw_frames(length, rng) for _ in range(6000)])
    shares = np.bincount(draws.ravel(), minlength=length) / 6000
    assert (shares > 0).sum() == seen
    np.testing.assert_allclose(shares, 8 / length, atol=0.06)
    reference = TrainTransform(8, 24, np.arange(3)).draw_frames(15, rng)
    np.testing.assert_array_equal(reference, np.arange(8))


@pytest.mark.parametrize("length", [10, 20, 40, 64])
def test_uniform_dense_clips_of_a_short_video_differ_and_cover_it(length):
    clips = frame_indices(length, 8, "dense10", sampling="uniform")
    assert len({tuple(clip) for clip in clips.tolist()}) >= min(10, -(-length // 8))
    assert set(clips.ravel().tolist()) == set(range(length)) or length > 40
    starts = np.arange(8) * length // 8
    assert (clips >= starts).all() and (clips <= starts + -(-length // 8)).all()


def test_short_videos_are_counted_for_the_protocol_that_they_matter_to():
    lengths = np.array([15, 16, 64, 65, 300])

    def notes(protocol, sampling):
        return short_video_notes(lengths, 8, protocol, sampling, "train")

    (note,) = notes("random", "reference")
    assert note.startswith("1 of 5 train videos have fewer than 16 frames")
    assert "--config.data.sampling=uniform" in note
    (note,) = notes("dense10", "reference")
    assert note.startswith("3 of 5 train videos have fewer than 65 frames")
    for protocol in ("random", "dense10"):
        (note,) = notes(protocol, "uniform")
        assert "--config" not in note
    assert not notes("center", "reference") and not notes("twice", "uniform")
    assert not short_video_notes(lengths[1:], 8, "random", "reference", "train")
