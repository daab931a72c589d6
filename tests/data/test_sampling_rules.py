"""Segments of consecutive frames, dense windows and shared offsets: the authors' indices."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aia_jax.data.sampling import (
    PROTOCOLS,
    dense_stride,
    describe_clip,
    frame_indices,
    is_sampling,
    short_video_notes,
)
from tests.helpers.paths import GOLDEN

H2CN = json.loads((GOLDEN / "h2cn_frame_indices.json").read_text())
FAMILY = json.loads((GOLDEN / "family_sampling.json").read_text())
SAMPLINGS = ("reference", "uniform", "mmaction2", "shared", "dense1", "dense7", "dense32")
CLIPS = {"random": 1, "center": 1, "twice": 2, "dense10": 10}


class Extreme(np.random.Generator):
    """Draws the least or the greatest number, and keeps the bounds that it was asked for."""

    def __init__(self, greatest: bool):
        super().__init__(np.random.PCG64())
        self.greatest, self.bounds = greatest, []

    def integers(self, bound, size):
        self.bounds.append(int(bound))
        return np.full(size, bound - 1 if self.greatest else 0, np.int64)


@pytest.mark.parametrize("key", [key for key in H2CN if key.startswith("val|")])
def test_golden_segments_of_a_test(key):
    _, num_frames, count = key.split("|")
    found = frame_indices(int(count), int(num_frames), "center", segment_frames=5)
    assert (found[0] + 1).tolist() == H2CN[key]


@pytest.mark.parametrize("key", [key for key in H2CN if key.startswith(("train_l", "train_h"))])
def test_golden_segments_of_training(key):
    kind, num_frames, count = key.split("|")
    rng = Extreme(kind == "train_high")
    found = frame_indices(int(count), int(num_frames), "random", rng, segment_frames=5)
    assert (found[0, ::5] + 1).tolist() == H2CN[key]
    assert rng.bounds == H2CN[f"train_draw|{num_frames}|{count}"]


def test_draws_of_a_video_with_few_places_are_sorted_and_differ():
    assert H2CN["train_kind|8|11"] == "sorted"
    rng = np.random.default_rng(0)
    starts = np.array(
        [frame_indices(11, 8, "random", rng, segment_frames=5)[0, ::5] for _ in range(300)]
    )
    assert (np.diff(starts) >= 0).all() and set(starts.ravel()) == set(range(7))
    assert len({tuple(row) for row in starts}) > 100


@pytest.mark.parametrize("key", [key for key in FAMILY if "crops" not in key])
def test_golden_windows_and_shared_offsets(key):
    name, num_frames, *clips, count = key.split("|")
    sampling = "dense32" if name.startswith("MSCA") else "shared"
    count, num_frames = int(count), int(num_frames.split("x")[0])
    if clips:
        protocol = {1: "center", 2: "twice", 10: "dense10"}[int(clips[0].split()[0])]
        found = frame_indices(count, num_frames, protocol, sampling=sampling)
    else:
        found = frame_indices(count, num_frames, "random", Extreme("high" in name), sampling)[0]
    assert (found + 1).tolist() == FAMILY[key]


@settings(deadline=None)
@given(
    st.integers(1, 700),
    st.integers(1, 20),
    st.sampled_from(PROTOCOLS),
    st.sampled_from(SAMPLINGS),
    st.integers(2, 9),
    st.integers(0, 2**32),
)
def test_a_clip_is_whole_segments_of_consecutive_frames(
    count, num_frames, protocol, sampling, segment_frames, seed
):
    rng = np.random.default_rng(seed)
    found = frame_indices(count, num_frames, protocol, rng, sampling, segment_frames)
    assert found.shape == (CLIPS[protocol], num_frames * segment_frames)
    assert found.dtype == np.int64 and found.min() >= 0 and found.max() < count
    segments = found.reshape(-1, num_frames, segment_frames)
    expected = segments[..., :1] + np.arange(segment_frames)
    np.testing.assert_array_equal(segments, np.minimum(expected, count - 1))
    if count >= segment_frames:
        assert (np.diff(segments) == 1).all()
    if not dense_stride(sampling):  # whose windows wrap round
        assert (np.diff(segments[..., 0], axis=1) >= 0).all()


@settings(deadline=None)
@given(
    st.integers(1, 700),
    st.integers(1, 20),
    st.sampled_from(PROTOCOLS),
    st.sampled_from(SAMPLINGS),
    st.integers(0, 2**32),
)
def test_a_rule_never_leaves_the_video(count, num_frames, protocol, sampling, seed):
    rng = np.random.default_rng(seed)
    found = frame_indices(count, num_frames, protocol, rng, sampling)
    assert found.shape == (CLIPS[protocol], num_frames) and found.dtype == np.int64
    assert found.min() >= 0 and found.max() < count
    stride = dense_stride(sampling)
    if stride and count > num_frames * stride:
        assert (np.diff(found) == stride).all()
    np.testing.assert_array_equal(
        found, frame_indices(count, num_frames, protocol, np.random.default_rng(seed), sampling, 1)
    )


def test_ten_clips_of_segments_are_ten_training_clips_that_cover_the_video():
    for sampling in ("reference", "uniform"):
        clips = frame_indices(164, 8, "dense10", sampling=sampling, segment_frames=5)
        starts = clips[:, ::5]  # [clips, T]: 160 places, 20 of each segment
        assert len({tuple(clip) for clip in starts.tolist()}) == 10
        np.testing.assert_array_equal(
            starts - np.arange(8) * 20, np.arange(1, 20, 2)[:, None] + [0] * 8
        )


def test_uniform_segments_of_a_short_video_spread_over_it():
    for protocol in ("center", "twice"):
        reference, uniform = (
            frame_indices(11, 8, protocol, sampling=sampling, segment_frames=5)[:, ::5]
            for sampling in ("reference", "uniform")
        )
        assert not reference.any() and set(uniform[0]) == set(range(7))
    rng = np.random.default_rng(0)
    draws = [frame_indices(12, 8, "random", rng, "uniform", 5)[0, ::5] for _ in range(4000)]
    shares = np.bincount(np.ravel(draws), minlength=8) / 4000
    np.testing.assert_allclose(shares, 1, atol=0.06)


def test_a_shared_offset_is_the_same_in_all_segments():
    rng = np.random.default_rng(0)
    draws = np.array([frame_indices(43, 8, "random", rng, "shared")[0] for _ in range(200)])
    assert (np.diff(draws) == 5).all() and set(draws[:, 0]) == set(range(5))


def test_mmaction2_has_the_references_frames_but_in_short_training_videos():
    rng = np.random.default_rng(0)
    for count in (1, 3, 5, 8, 11, 64, 300):
        for protocol in PROTOCOLS[1:]:
            np.testing.assert_array_equal(
                frame_indices(count, 8, protocol, sampling="mmaction2"),
                frame_indices(count, 8, protocol),
            )
    # 8 frames of 5: 0.625 i, rounded; of 3: the last is 2.625, the third frame of 0 to 2 is over.
    assert frame_indices(5, 8, "random", rng, "mmaction2")[0].tolist() == [0, 1, 1, 2, 2, 3, 4, 4]
    assert frame_indices(3, 8, "random", rng, "mmaction2")[0].tolist() == [0, 0, 1, 1, 2, 2, 2, 0]
    draws = {frame_indices(11, 8, "random", rng, "mmaction2")[0, -1] for _ in range(50)}
    assert draws == {7}


def test_random_windows_start_everywhere():
    rng = np.random.default_rng(0)
    starts = {int(frame_indices(43, 8, "random", rng, "dense4")[0, 0]) for _ in range(300)}
    assert starts == set(range(43 - 32))


def test_names_of_rules():
    assert [dense_stride(text) for text in ("dense32", "dense1", "uniform")] == [32, 1, 0]
    for wrong in ("dense", "dense0", "dense-1", "dense1.5", "dense10x", "denseN", "", "even"):
        assert not is_sampling(wrong)
        with pytest.raises(ValueError, match="uniform, mmaction2, shared, denseN"):
            frame_indices(10, 8, "center", sampling=wrong)
    assert all(map(is_sampling, SAMPLINGS))
    with pytest.raises(ValueError, match="segment_frames=0: a segment has at least 1 frame"):
        frame_indices(10, 8, "center", segment_frames=0)


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        (
            (8, "random", "reference", "train", 5),
            ["2 of 4", "fewer than 20 ", "the first 12 ", "uniform draws"],
        ),
        ((8, "random", "uniform", "train", 5), ["2 of 4", "uniform draws from all frames"]),
        ((8, "random", "shared", "train"), ["2 of 4", "fewer than 16 ", "the first 8;"]),
        ((8, "random", "dense32", "train"), ["3 of 4", "fewer than 257 ", "wrap round"]),
        ((8, "dense10", "dense32", "test"), ["3 of 4", "equal clips"]),
        ((8, "center", "dense32", "test"), ["3 of 4", "fewer than 225 ", "wraps round"]),
        ((8, "dense10", "reference", "test", 5), []),
        ((8, "dense10", "shared", "test"), []),
        ((8, "center", "reference", "test", 5), []),
    ],
)
def test_short_videos_are_told_by_the_rule_that_they_matter_to(arguments, lines):
    notes = short_video_notes(np.array([4, 12, 30, 300]), *arguments)
    assert len(notes) == bool(lines)
    for words in lines:
        assert words in notes[0], notes


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((8, "reference"), "8 of the video: the middles of as many equal segments"),
        ((8, "shared"), "8 of the video: the starts of as many equal segments"),
        ((8, "dense32"), "8 of the video: every 32nd from its start"),
        ((8, "dense3"), "every 3rd"),
        ((8, "dense11"), "every 11th"),
        (
            (8, "reference", 5),
            "40 of the video: 8 segments of 5 consecutive frames, at the middles",
        ),
        (
            (8, "dense4", 5),
            "40 of the video: 8 segments of 5 consecutive frames, one every 4 frames",
        ),
    ],
)
def test_a_clip_is_described_in_words(arguments, words):
    assert words in describe_clip(*arguments)
