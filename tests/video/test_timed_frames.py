"""Frames with their times, and the length of a video before it is decoded."""

from fractions import Fraction

import av
import numpy as np
import pytest
import simplejpeg

from aia_jax.video.decode import decode
from aia_jax.video.faults import UnreadableVideo
from aia_jax.video.frame_size import FrameFormat, FrameSize
from aia_jax.video.timed_frames import Clock, read_clock, timed_frames
from tests.helpers.raw_videos import (
    numbered_frames,
    remux,
    write_empty_video,
    write_frames,
    write_video,
)

FORMAT = FrameFormat(FrameSize(18, 24))


@pytest.mark.parametrize("name", ["a.mp4", "a.avi", "a.webm", "a.ts", "frames"])
def test_frames_are_those_of_decode_with_even_times(tmp_path, name):
    frames = numbered_frames(9, 30, 42)
    if name == "frames":
        source, clock = write_frames(tmp_path / name, frames), read_clock(tmp_path / name, "", 12.0)
    else:
        source = write_video(tmp_path / name, frames)
        clock = read_clock(source)
    found = list(timed_frames(source, FORMAT, clock))
    assert clock.fps == pytest.approx(12) and clock.end == pytest.approx(9 / 12, abs=2e-3)
    np.testing.assert_allclose([frame.time for frame in found], np.arange(9) / 12, atol=2e-3)
    assert [frame.store() for frame in found] == decode(source, FORMAT.size, FORMAT.quality).frames
    assert found[3].show().shape == (30, 42, 3)
    assert np.abs(found[3].show().astype(int) - frames[3]).mean() < 4


def test_a_turned_video_is_upright(tmp_path):
    source = remux(
        write_video(tmp_path / "a.mp4", numbered_frames(3, 30, 42)),
        tmp_path / "b.mp4",
        rotation=90,
    )
    (frame, *_) = timed_frames(source, FORMAT, read_clock(source))
    assert frame.show().shape == (42, 30, 3)
    assert simplejpeg.decode_jpeg(frame.store()).shape == (18, 24, 3)


def test_frames_that_do_not_follow_evenly_have_their_own_times(tmp_path):
    times = [0, 500, 600, 700, 2000]  # milliseconds
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        track = container.add_stream("libx264", rate=30)
        track.height, track.width, track.pix_fmt = 30, 42, "yuv420p"
        track.codec_context.time_base = Fraction(1, 1000)
        for pixels, time in zip(numbered_frames(5, 30, 42), times, strict=True):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            container.mux(track.encode(frame))
        container.mux(track.encode())
    clock = read_clock(tmp_path / "a.mkv")
    found = list(timed_frames(tmp_path / "a.mkv", FORMAT, clock))
    np.testing.assert_allclose([frame.time for frame in found], np.array(times) / 1000, atol=2e-3)
    assert clock.mean_fps == pytest.approx(5 / clock.end) and clock.end == pytest.approx(2, abs=0.1)


def test_what_has_no_length_is_unreadable(tmp_path):
    folder = write_frames(tmp_path / "frames", numbered_frames(3, 30, 42))
    with pytest.raises(UnreadableVideo, match="--fps"):
        read_clock(folder)
    (tmp_path / "empty").mkdir()
    for source in (tmp_path / "nowhere.mp4", tmp_path / "empty"):
        with pytest.raises(UnreadableVideo):
            read_clock(source, "", 12.0)
    with pytest.raises(UnreadableVideo, match="no video stream"):
        list(timed_frames(write_empty_video(tmp_path / "a.mp4"), FORMAT, Clock(1.0, 12.0)))
