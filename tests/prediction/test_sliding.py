"""Where windows lie on a video."""

import itertools
from pathlib import Path

import pytest

from aia_jax.errors import UserError
from aia_jax.prediction.sliding import Sliding
from aia_jax.video.timed_frames import Clock

VIDEO = Path("a.mp4")


@pytest.mark.parametrize(
    ("end", "window", "stride", "expected"),
    [
        (4, 2, 1, [(0, 2), (1, 3), (2, 4)]),
        (4.5, 2, 1, [(0, 2), (1, 3), (2, 4), (2.5, 4.5)]),  # the last one is moved back
        (3.98, 2, 1, [(0, 2), (1, 3), (2, 3.98)]),  # half a frame counts as nothing
        (4.02, 2, 1, [(0, 2), (1, 3), (2, 4)]),
        (1.5, 2, 1, [(0, 1.5)]),  # a short video is one window
        (2, 2, 5, [(0, 2)]),
        (9, 1, 4, [(0, 1), (4, 5), (8, 9)]),  # gaps are meant
        (8.5, 1, 4, [(0, 1), (4, 5), (7.5, 8.5)]),
        (8, 1, 4, [(0, 1), (4, 5)]),
    ],
)
def test_windows_reach_the_end_at_full_length(end, window, stride, expected):
    found = Sliding(window, stride).place(VIDEO, Clock(end, 10.0))
    assert [pytest.approx(place) for place in expected] == found


def test_an_hour_is_covered_without_drift():
    places = Sliding(2.0, 0.1).place(VIDEO, Clock(3_600.0, 29.97))
    assert len(places) == 35_981 and places[-1] == pytest.approx((3_598, 3_600))
    assert all(a[0] < b[0] and a[1] <= b[1] for a, b in itertools.pairwise(places))


@pytest.mark.parametrize("numbers", [(0, 1), (1, 0), (-1, 1), (float("nan"), 1), (1, float("inf"))])
def test_seconds_are_numbers_above_0(numbers):
    with pytest.raises(UserError, match="above 0"):
        Sliding(*map(float, numbers))


@pytest.mark.parametrize(("window", "stride", "name"), [(1, 0.01, "stride"), (0.01, 1, "window")])
def test_less_than_a_frame_is_refused_with_the_frame_s_length(window, stride, name):
    with pytest.raises(UserError, match=rf"--{name} 0.01: a.mp4 has a new frame every 0.1 s"):
        Sliding(window, stride).place(VIDEO, Clock(5.0, 10.0))
