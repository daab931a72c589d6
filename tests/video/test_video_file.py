"""Damage that FFmpeg passes over, files that end too early or only seem to, and cover pictures."""

import itertools
import random
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import av.logging
import numpy as np
import pytest

from aia_jax.video.decode import UnreadableVideo, decode, estimated_count, pictures
from aia_jax.video.frame_size import FrameSize
from aia_jax.video.segment import Segment, decode_segment
from aia_jax.video.video_file import VideoFile
from tests.helpers.raw_videos import numbered_frames, write_frames, write_video

SMALL = FrameSize(height=24, width=32)


def busy_frames(count: int, height: int = 48, width: int = 64) -> list[np.ndarray]:
    """Frames with much detail, so that most bytes of their file are pixels."""
    noise = np.random.default_rng(0).integers(
        0, 256, (height // 4, width // 4 + count, 3), np.uint8
    )
    noise = noise.repeat(4, 0).repeat(4, 1)
    return [noise[:, 4 * number : 4 * number + width] for number in range(count)]


def reason(source: Path) -> str:
    with pytest.raises(UnreadableVideo) as caught:
        decode(source, SMALL, 90)
    return str(caught.value)


def logs_errors(path: Path) -> bool:
    """Whether FFmpeg logs an error and decodes all the same, without a flag or an exception.

    A parser's messages do not count: newer ones complain of headers that cost no frame.
    """
    with av.logging.Capture() as messages, av.open(str(path)) as container:
        container.streams.video[0].codec_context.thread_count = 1
        flags = [frame.is_corrupt for frame in container.decode(video=0)]
        logged = any(name == container.format.name for _, name, _ in messages)
    return logged and not any(flags)


@pytest.mark.parametrize("name", ["a.gif", "a.webm"])
def test_an_error_that_ffmpeg_only_logs_refuses_the_video(tmp_path, name):
    """GIF goes on with grey pixels, Matroska leaves frames out: without a flag or an exception."""
    pix_fmt = "rgb8" if name.endswith("gif") else "yuv420p"
    path = write_video(tmp_path / name, busy_frames(30), pix_fmt=pix_fmt, gop_size=6)
    whole, content, silent = decode(path, SMALL, 90).count, path.read_bytes(), 0
    assert whole == 30
    draw = random.Random(0)
    for _ in range(20):
        damaged = bytearray(content)
        for at in draw.sample(range(len(content) // 4, len(content)), 20):
            damaged[at] = draw.randrange(256)
        path.write_bytes(damaged)
        try:
            logged = logs_errors(path)
        except av.error.FFmpegError:
            continue
        if logged:
            silent += 1
            assert reason(path)
    assert silent > 3, "else this is no test"


def test_threads_find_the_same_damage_and_the_same_frames(tmp_path):
    path = write_video(tmp_path / "a.mp4", busy_frames(30), gop_size=6)
    some = decode(path, SMALL, 90, {3, 29}, threads=0)
    assert some.frames == [decode(path, SMALL, 90).frames[number] for number in (3, 29)]
    content = bytearray(path.read_bytes())
    for at in range(len(content) // 2, len(content) * 3 // 4, 97):
        content[at] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(UnreadableVideo) as caught:
        decode(path, SMALL, 90, {3}, threads=0)
    assert str(caught.value) == reason(path)


def test_a_broadcast_begins_anywhere(tmp_path):
    """FFmpeg cannot decode the frames before the first key frame, and logs that: no damage."""
    path = write_video(tmp_path / "a.ts", busy_frames(60), gop_size=12, max_b_frames=2)
    whole, packets = decode(path, SMALL, 90).frames, path.read_bytes()
    middle = len(packets) // 188 * 2 // 5 * 188
    path.write_bytes(packets[middle:])
    rest = decode(path, SMALL, 90).frames
    assert 10 < len(rest) < 40
    assert rest == whole[-len(rest) :]


def write_held(path: Path, codec: str, hold: float) -> Path:
    """Twelve frames of a tenth of a second; the last one is shown for `hold` seconds."""
    with av.open(str(path), "w") as container:
        track = container.add_stream(codec, rate=10, options={"bf": "0"})
        track.height, track.width, track.pix_fmt = 48, 64, "yuv420p"
        track.codec_context.time_base = Fraction(1, 1000)
        packets = []
        for number, pixels in enumerate(numbered_frames(12, 48, 64)):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = 100 * number, Fraction(1, 1000)
            packets += track.encode(frame)
        packets += track.encode()
        for packet in packets:
            is_last = float(packet.pts * packet.time_base) > 1.05
            packet.duration = round((hold if is_last else 0.1) / packet.time_base)
            container.mux(packet)
    return path


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mp4", "libx264"), ("a.mkv", "libx264"), ("a.webm", "libvpx")]
)
def test_a_last_frame_that_is_held_is_no_cut(tmp_path, name, codec):
    path = write_held(tmp_path / name, codec, 5.0)
    video = decode(path, SMALL, 90)
    assert (video.count, video.end_checked) == (12, True)
    assert decode_segment(path, Segment(1, 4, "seconds"), SMALL, 90).count == 2
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 3 // 5])
    assert reason(path)


def write_with_sound(path: Path, codec: str, frames: Sequence[np.ndarray], seconds: float) -> Path:
    with av.open(str(path), "w") as container:
        track = container.add_stream("wmv2", rate=10)
        track.height, track.width, track.pix_fmt = 48, 64, "yuv420p"
        sound = container.add_stream(codec, rate=44100, layout="mono")
        sound.bit_rate = 64_000
        packets = []
        for pixels in frames:
            packets += track.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24"))
        size = 2048
        for number in range(int(seconds * 44100 / size)):
            samples = av.AudioFrame.from_ndarray(np.zeros((1, size), np.float32), "fltp", "mono")
            samples.sample_rate, samples.pts = 44100, number * size
            packets += sound.encode(samples)
        packets += [*track.encode(), *sound.encode()]
        for packet in sorted(packets, key=lambda packet: packet.pts * packet.time_base):
            container.mux(packet)
    return path


def test_sound_that_goes_on_is_no_cut(tmp_path):
    path = write_with_sound(tmp_path / "a.wmv", "wmav2", busy_frames(20), 6.0)
    assert decode(path, SMALL, 90).count == 20
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert reason(path)


def test_a_recording_without_a_length_is_marked_as_not_checked(tmp_path):
    path = write_video(tmp_path / "a.ts", busy_frames(40))
    assert not decode(path, SMALL, 90).end_checked
    assert decode_segment(path, Segment(0, 1, "seconds"), SMALL, 90).end_checked
    assert not decode_segment(path, Segment(1, 9, "seconds"), SMALL, 90).end_checked
    assert decode(write_video(tmp_path / "a.mp4", busy_frames(9)), SMALL, 90).end_checked
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 3 // 5])
    assert reason(path)
    with av.open(str(tmp_path / "live.webm"), "w", options={"live": "1"}) as container:
        track = container.add_stream("libvpx", rate=12)
        track.height, track.width, track.pix_fmt = 48, 64, "yuv420p"
        for pixels in busy_frames(40):
            container.mux(track.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(track.encode())
    path = tmp_path / "live.webm"
    assert (decode(path, SMALL, 90).count, decode(path, SMALL, 90).end_checked) == (40, False)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 3 // 5])
    assert "ended prematurely" in reason(path)


def test_half_a_transport_packet_is_a_cut(tmp_path):
    path = write_video(tmp_path / "a.ts", busy_frames(30))
    content = path.read_bytes()
    path.write_bytes(content + content[:100])
    assert "its last transport packet has 100 bytes only" in reason(path)
    path.write_bytes(content + bytes(100))  # padding
    assert decode(path, SMALL, 90).count == 30


def test_a_gif_without_the_mark_of_its_end_is_not_checked(tmp_path):
    path = write_video(tmp_path / "a.gif", busy_frames(9), pix_fmt="rgb8")
    assert decode(path, SMALL, 90).end_checked
    path.write_bytes(path.read_bytes()[:-1])
    assert not decode(path, SMALL, 90).end_checked


@pytest.mark.parametrize("name", ["a.mp3", "a.mp4"])
def test_a_cover_picture_is_no_video(tmp_path, name):
    with av.open(str(tmp_path / name), "w") as container:
        sound = container.add_stream("libmp3lame" if name == "a.mp3" else "aac", rate=44100)
        sound.layout = "mono"
        cover = container.add_stream("mjpeg", rate=1)
        cover.height, cover.width, cover.pix_fmt = 48, 64, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        picture = av.VideoFrame.from_ndarray(numbered_frames(1, 48, 64)[0], format="rgb24")
        for packet in [*cover.encode(picture.reformat(format="yuvj420p")), *cover.encode()]:
            container.mux(packet)
        for number in range(40):
            samples = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            samples.sample_rate, samples.pts = 44100, number * 1024
            container.mux(sound.encode(samples))
        container.mux(sound.encode())
    assert "a cover picture" in reason(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.ts", ""),
        ("a.m2ts", "libx264"),
        ("a.mpg", ""),
        ("a.avi", ""),
        ("b.avi", "libx264"),
        ("a.mp4", ""),
        ("a.wmv", ""),
    ],
)
def test_parts_tile_the_video(tmp_path, name, codec):
    """One key frame at the start, or few, and frames that are stored in another order."""
    path = (
        write_video(
            tmp_path / name, busy_frames(36), fps=10, codec=codec, gop_size=30, max_b_frames=2
        )
        if name != "a.wmv"
        else write_video(tmp_path / name, busy_frames(36), fps=10, gop_size=30)
    )
    whole = decode(path, SMALL, 90).frames
    assert len(whole) == 36
    for length in (1, 0.35):
        parts = []
        for number in range(round(3.6 / length + 0.5)):
            segment = Segment(number * length, (number + 1) * length, "seconds")
            parts.append(decode_segment(path, segment, SMALL, 90).frames)
        assert list(itertools.chain.from_iterable(parts)) == whole
        assert [len(part) for part in parts[:3]] == ([10] * 3 if length == 1 else [4, 3, 4])


def test_damage_outside_of_a_segment_does_not_matter(tmp_path):
    path = write_video(tmp_path / "a.mkv", busy_frames(60), fps=10, gop_size=10)
    whole = decode(path, SMALL, 90).frames
    content = bytearray(path.read_bytes())
    for at in range(len(content) * 2 // 5, len(content) // 2, 53):
        content[at] ^= 0xFF
    path.write_bytes(content)
    assert reason(path)
    assert decode_segment(path, Segment(0.5, 1.5, "seconds"), SMALL, 90).frames == whole[5:15]
    assert decode_segment(path, Segment(5, 9, "seconds"), SMALL, 90).frames == whole[50:]
    with pytest.raises(UnreadableVideo):
        decode_segment(path, Segment(2, 4, "seconds"), SMALL, 90)


def test_a_file_that_is_left_early_closes(tmp_path):
    path = write_video(tmp_path / "a.mp4", busy_frames(30))
    for threads in (0, 1):
        with VideoFile(path, threads) as video:
            next(video.frames())


def test_wanted_frames_are_those_of_the_whole_video(tmp_path):
    frames = numbered_frames(9, 24, 32)
    sources = [
        write_video(tmp_path / "a.webm", frames),
        write_video(tmp_path / "b.mp4", frames),
        write_frames(tmp_path / "c", frames),
    ]
    for source in sources:
        whole = decode(source, FrameSize(16, 20), 90)
        some = decode(source, FrameSize(16, 20), 90, {2, 5}, threads=0)
        assert (
            some.frames == [whole.frames[2], whole.frames[5]]
            and some.count == whole.count == estimated_count(source) == 9
        )
        assert len(list(pictures(source))) == 9


def test_a_title_that_is_no_utf8_is_no_reason_to_refuse_a_video(tmp_path):
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        container.metadata["title"] = "umlauts"
        track = container.add_stream("mpeg4", rate=12)
        track.height = track.width = 32
        for pixels in numbered_frames(3, 32, 32):
            container.mux(track.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(track.encode())
    content = (tmp_path / "a.mp4").read_bytes()
    assert content.count(b"umlauts") == 1
    (tmp_path / "a.mp4").write_bytes(content.replace(b"umlauts", b"\xfcmlaut\xff"))
    assert decode(tmp_path / "a.mp4", FrameSize(16, 16), 90).count == 3
