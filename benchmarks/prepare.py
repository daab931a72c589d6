"""Times videos becoming shards, beside FFmpeg's own decoder, scaler and MJPEG encoder.

    python -m benchmarks.prepare

Both run on the same files and on one core, in turns. Both decode every frame with FFmpeg's
libraries on one thread, resize to 240×320 and compress to JPEG of about the same size. FFmpeg then
writes a plain MJPEG file and scales bicubically. This project antialiases, converts the colours to
those of a JPEG, computes the checksums and the index, and writes TFRecord to the disk.

The baseline runs through PyAV, in C but for one call a frame, so that it needs no ffmpeg program.
If that program is installed, it is measured too (with `-threads 1`).
"""

import argparse
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from aia_jax.prepare.raw_dataset import RawVideo
from aia_jax.prepare.shard import ShardJob, write_shard
from aia_jax.video.frame_size import FrameFormat, FrameSize
from benchmarks import results

HEIGHT, WIDTH = 240, 320  # stored
# Sizes and codecs of data sets: Something-Something V2, Kinetics-400 at the short side that is
# usually stored and at full size, UCF101.
SOURCES = {
    "240×426 VP9 .webm": (240, 426, "libvpx-vp9", ".webm"),
    "256×340 H.264 .mp4": (256, 340, "libx264", ".mp4"),
    "1080×1920 H.264 .mp4": (1080, 1920, "libx264", ".mp4"),
    "240×320 MPEG-4 .avi": (240, 320, "mpeg4", ".avi"),
}
_QSCALE, _QUALITY = 2, 90


def make_videos(
    folder: Path, count: int, frames: int, height: int, width: int, codec: str, suffix: str
) -> list[Path]:
    """Writes videos of a textured scene that drifts, with the noise of a camera."""
    rng = np.random.default_rng(0)
    paths = []
    for number in range(count):
        layers = [
            cv2.resize(
                rng.normal(size=(rows, rows * 4 // 3, 3)),
                (width + 2 * frames, height + frames),
                interpolation=cv2.INTER_CUBIC,
            )
            * (45 / (octave + 1) ** 1.2)
            for octave, rows in enumerate((4, 9, 20, 45, 100))
        ]
        scene = sum(layers) + 120
        noise = rng.normal(size=(height, width + frames, 3)) * 3
        paths.append(folder / f"{number}{suffix}")
        with av.open(str(paths[-1]), "w") as container:
            options = {}
            if "vp9" in codec:
                options = {"cpu-used": "8", "deadline": "realtime"}
            elif codec == "libx264":
                options = {"preset": "veryfast"}
            track = container.add_stream(codec, rate=12, options=options)
            track.height, track.width, track.pix_fmt = height, width, "yuv420p"
            track.bit_rate = 8 * height * width
            for frame in range(frames):
                pixels = (
                    scene[frame : frame + height, 2 * frame : 2 * frame + width]
                    + noise[:, frame : frame + width]
                )
                pixels = np.ascontiguousarray(np.clip(pixels, 0, 255).astype(np.uint8))
                container.mux(track.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            container.mux(track.encode())
    return paths


def this_project(paths: Sequence[Path], out: Path) -> int:
    """Writes one shard; returns its size in bytes."""
    videos = tuple(RawVideo(path.name, path, {"label": 0}, "train") for path in paths)
    frame_format = FrameFormat(FrameSize(HEIGHT, WIDTH), _QUALITY)
    notes = write_shard(ShardJob(out / "shard", out / "shard.json", videos, frame_format))
    assert notes.records == len(paths), notes.bad
    return (out / "shard").stat().st_size


def ffmpeg_libraries(paths: Sequence[Path], out: Path) -> int:
    """Decodes, scales and encodes by FFmpeg's libraries; returns the bytes written."""
    for path in paths:
        with (
            av.open(str(path)) as source,
            av.open(str(out / f"{path.stem}.mjpeg"), "w", format="mjpeg") as target,
        ):
            source.streams.video[0].codec_context.thread_count = 1
            track = target.add_stream("mjpeg", rate=12)
            track.height, track.width, track.pix_fmt = HEIGHT, WIDTH, "yuvj420p"
            track.codec_context.thread_count = 1
            track.codec_context.color_range = 2  # full, as JPEG's
            track.codec_context.qmin = track.codec_context.qmax = _QSCALE
            for number, frame in enumerate(source.decode(video=0)):
                scaled = frame.reformat(
                    WIDTH, HEIGHT, "yuvj420p", dst_color_range="JPEG", interpolation="BICUBIC"
                )
                scaled.pts, scaled.time_base = number, Fraction(1, 12)
                target.mux(track.encode(scaled))
            target.mux(track.encode())
    return sum(path.stat().st_size for path in out.glob("*.mjpeg"))


def ffmpeg_program(paths: Sequence[Path], out: Path) -> int:
    """Does the same with the ffmpeg program, one call a file as extraction scripts do."""
    for path in paths:
        words = ["ffmpeg", "-v", "error", "-threads", "1", "-i", path]
        words += ["-vf", f"scale={WIDTH}:{HEIGHT}", "-pix_fmt", "yuvj420p"]
        words += ["-c:v", "mjpeg", "-q:v", str(_QSCALE), "-threads", "1", "-f", "mjpeg"]
        words.append(out / f"{path.stem}.mjpeg")
        subprocess.run(words, check=True)
    return sum(path.stat().st_size for path in out.glob("*.mjpeg"))


def cpu_seconds(
    work: Callable[[Sequence[Path], Path], int], paths: Sequence[Path]
) -> tuple[float, int]:
    """Runs `work` once; returns its CPU seconds and the bytes that it wrote.

    The time of programs that it starts is included.
    """

    def used() -> float:
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return time.process_time() + children.ru_utime + children.ru_stime

    with tempfile.TemporaryDirectory() as name:
        start = used()
        size = work(paths, Path(name))
        return used() - start, size


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.prepare", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--videos", type=int, default=8, help="of each kind")
    parser.add_argument("--frames", type=int, default=40, help="of each video")
    parser.add_argument("--rounds", type=int, default=5, help="both take turns")
    results.add_option(parser)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    baselines = {"FFmpeg's libraries": ffmpeg_libraries}
    if shutil.which("ffmpeg"):
        baselines["the ffmpeg program"] = ffmpeg_program
    for kind, source in SOURCES.items():
        with tempfile.TemporaryDirectory() as folder:
            paths = make_videos(Path(folder), args.videos, args.frames, *source)
            for name, baseline in baselines.items():
                rounds = [
                    (cpu_seconds(this_project, paths), cpu_seconds(baseline, paths))
                    for _ in range(args.rounds)
                ]
                report(args.json, kind, name, args.videos * args.frames, rounds)


def report(
    file: Path | None,
    kind: str,
    name: str,
    frames: int,
    rounds: Sequence[tuple[tuple[float, int], tuple[float, int]]],
) -> None:
    """Prints the round with the median ratio of a baseline's time to this project's."""
    by_ratio = sorted((theirs[0] / ours[0], ours, theirs) for ours, theirs in rounds)
    ratio, (ours, our_size), (theirs, their_size) = by_ratio[len(rounds) // 2]
    print(
        f"{kind}: {frames / ours:.0f} frames per CPU-second ({our_size / frames / 1e3:.1f} kB "
        f"each), {name} {frames / theirs:.0f} ({their_size / frames / 1e3:.1f} kB): ratio "
        f"{ratio:.2f}",
        flush=True,
    )
    value = f"{frames / ours:.0f} frames a CPU-second"
    results.write(file, f"prepare, {kind}", value, name, ratio)


if __name__ == "__main__":
    main()
