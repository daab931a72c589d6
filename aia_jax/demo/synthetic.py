"""Makes a small video data set that only a model with a sense of time can learn.

    python -m aia_jax.demo.synthetic --out DIR

Eight classes in four pairs: each video of a class is, frame for frame, the reverse of a video of
its partner class. A model that averages over frames (TSN) sees the same frames in both videos and
classifies at most one of them correctly: its ceiling is 50%.

Two things make that ceiling exact. Every frame is coded by itself at a fixed quantiser, so that a
decoded video is the exact reverse of its partner and shows no trace of the direction in which it
was coded. And no length is a multiple of 16: then the `center` indices of 8 frames are symmetric,
and a video and its reverse give the same 8 frames.
"""

import argparse
import colorsys
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from aia_jax.errors import Stopped, UserError, exit_status
from aia_jax.files import write_text

# Reversing a video takes it from one class of a pair to the other. Mirroring it swaps the first
# pair and changes no other class.
PAIRS = (
    ("moving something right", "moving something left"),
    ("moving something down", "moving something up"),
    ("something grows", "something shrinks"),
    ("something appears", "something vanishes"),
)
CLASSES = tuple(name for pair in PAIRS for name in pair)
SPLITS = ("train", "validation")

SIZE = 64  # pixels, height and width
FRAMES = (24, 28)  # shortest and longest video; no multiple of 16 between them, see above
FPS = 12
SETTINGS = "synthetic.json"  # beside the splits: what the folder holds, and whether it is complete


@dataclass(frozen=True)
class Scene:
    """One object on a plain ground.

    Attributes:
        shape: "disc", "square" or "triangle".
        colour: [3], RGB of the object, 0 to 255.
        ground: [3], RGB of the ground, 0 to 255.
        x: [T], the object's centre in each frame, pixels from the left.
        y: [T], pixels from the top.
        radius: [T], pixels.
        opacity: [T], 0 (invisible) to 1.
    """

    shape: str
    colour: np.ndarray
    ground: np.ndarray
    x: np.ndarray
    y: np.ndarray
    radius: np.ndarray
    opacity: np.ndarray


def draw_scene(pair: int, rng: np.random.Generator) -> Scene:
    """Draws a random scene of the first class of `PAIRS[pair]`."""
    frames = int(rng.integers(FRAMES[0], FRAMES[1] + 1))
    # The exponent makes some objects slow down and others speed up.
    progress = np.linspace(0, 1, frames) ** rng.uniform(0.7, 1.4)
    radius = np.full(frames, rng.uniform(5, 9))
    opacity = np.ones(frames)
    # Every object drifts a little, so that standing still says nothing about the class.
    start = rng.uniform(0.3, 0.7, size=2) * SIZE
    x, y = start[:, None] + rng.uniform(-4, 4, size=(2, 1)) * progress
    if pair in (0, 1):
        travel = rng.uniform(0.4, 0.65) * SIZE
        margin = radius[0]
        along = rng.uniform(margin, SIZE - margin - travel) + travel * progress
        x, y = (along, y) if pair == 0 else (x, along)
    elif pair == 2:
        radius = rng.uniform(3, 6) + rng.uniform(9, 14) * progress
    else:
        fade = rng.uniform(1, 4)  # frames
        moment = rng.uniform(0.3, 0.7) * frames
        opacity = np.clip((np.arange(frames) - moment) / fade + 0.5, 0, 1)
        radius = radius * 1.3
    rgb = colorsys.hsv_to_rgb(rng.uniform(), rng.uniform(0, 0.7), rng.uniform(0.85, 1))
    colour = np.array(rgb) * 255
    return Scene(
        str(rng.choice(["disc", "square", "triangle"])),
        colour,
        rng.uniform(15, 55, size=3),
        x,
        y,
        radius,
        opacity,
    )


def render(scene: Scene, rng: np.random.Generator, noise: float = 3.0) -> np.ndarray:
    """Draws the frames of a scene, with smooth edges.

    Args:
        scene: what to draw.
        rng: source of the noise.
        noise: standard deviation of the noise of every pixel and channel, of 255.

    Returns:
        uint8 [frames, SIZE, SIZE, 3], RGB.
    """
    rows, columns = np.mgrid[:SIZE, :SIZE] + 0.5
    across = columns - scene.x[:, None, None]  # [T, H, W]
    down = rows - scene.y[:, None, None]
    if scene.shape == "disc":
        distance = np.hypot(across, down)
    elif scene.shape == "square":
        distance = np.maximum(np.abs(across), np.abs(down)) * 1.1
    else:  # a triangle that points up: the farthest of its three sides counts
        distance = np.maximum(down, np.abs(across) * 0.866 - down * 0.5) * 1.7
    cover = (
        np.clip(scene.radius[:, None, None] - distance + 0.5, 0, 1) * scene.opacity[:, None, None]
    )
    pixels = scene.ground + cover[..., None] * (scene.colour - scene.ground)
    pixels += noise * rng.standard_normal(pixels.shape, dtype=np.float32)
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


def _encoder() -> tuple[str, dict[str, str]]:
    """A codec that this PyAV has, and its options.

    They choose one thread, a fixed quantiser, and frames that do not depend on one another.
    """
    if "libx264" in av.codecs_available:
        return "libx264", {"qp": "16", "g": "1", "preset": "superfast", "threads": "1"}
    quality_step = 118  # in FFmpeg's units
    return "mpeg4", {
        "flags": "+qscale",
        "global_quality": str(3 * quality_step),
        "g": "1",
        "threads": "1",
    }


def write_video(path: Path, frames: np.ndarray, fps: int = FPS) -> None:
    """Writes an .mp4 file in which every frame is coded by itself.

    This way a frame's pixels do not depend on its position in the video.

    Args:
        path: the file. A process that is killed leaves a part of it.
        frames: uint8 [T, H, W, 3], RGB; H and W even.
        fps: frames a second.
    """
    codec, options = _encoder()
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream(codec, rate=fps, options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def video_pairs(split: str, count: int, seed: int) -> Iterator[tuple[int, int, np.ndarray]]:
    """Renders the videos of a split: `count // len(CLASSES)` of each class.

    Yields:
        The pair's number in `PAIRS`, the video's number, and uint8 frames [T, H, W, 3] of the first
        class; reversed, they show the second.
    """
    for number in range(count // len(CLASSES)):
        for pair in range(len(PAIRS)):
            rng = np.random.default_rng([seed, SPLITS.index(split), pair, number])
            yield pair, number, render(draw_scene(pair, rng), rng)


def video_path(out: Path, split: str, name: str, number: int) -> Path:
    """The file of video `number` of class `name`; its reverse has this number in the partner."""
    return out / split / name / f"{split}-{CLASSES.index(name)}-{number:05d}.mp4"


def make(out: Path, seed: int, counts: dict[str, int]) -> bool:
    """Writes `out/<split>/<class>/<id>.mp4`; a video and its reverse have one number and split.

    Args:
        out: a folder for the videos alone. It is made if it is missing, and completed if an
            earlier call was interrupted.
        seed: the same seed gives the same files on the same PyAV.
        counts: videos of each split; rounded down to the same number for each class.

    Returns:
        False if `out` already held exactly these videos, so that nothing was written.

    Raises:
        UserError: `out` holds something else, or a split would be empty.
    """
    for split, count in counts.items():
        if count < len(CLASSES):
            raise UserError(
                f"--{split} {count} is too few for {len(CLASSES)} classes; give {len(CLASSES)} or "
                "more"
            )
    settings = {
        "seed": seed,
        **{split: count // len(CLASSES) * len(CLASSES) for split, count in counts.items()},
    }
    settings_file = out / SETTINGS
    if settings_file.exists():
        found = json.loads(settings_file.read_text())
        finished = found.pop("finished")
        if found != settings:
            raise UserError(
                f"{out} holds videos made with {found}, not {settings}; give another --out or "
                "delete that folder"
            )
        if finished:
            return False
    elif out.exists() and (not out.is_dir() or any(p.suffix != ".tmp" for p in out.iterdir())):
        raise UserError(
            f"{out} holds something that this command did not write; give a new folder as --out"
        )
    out.mkdir(parents=True, exist_ok=True)
    # Until the file says "finished", another call writes all videos again.
    write_text(settings_file, json.dumps({**settings, "finished": False}))
    for split, count in counts.items():
        for name in CLASSES:
            (out / split / name).mkdir(parents=True, exist_ok=True)
        for pair, number, frames in video_pairs(split, count, seed):
            for name, ordered in zip(PAIRS[pair], (frames, frames[::-1]), strict=True):
                write_video(video_path(out, split, name, number), ordered)
    write_text(settings_file, json.dumps({**settings, "finished": True}))
    return True


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m aia_jax.demo.synthetic", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the videos")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--train", type=int, default=960, help="training videos, all classes together (%(default)s)"
    )
    parser.add_argument(
        "--validation",
        type=int,
        default=416,
        help="held-out videos, all classes together (%(default)s)",
    )
    flags = parser.parse_args(argv)
    started = time.monotonic()
    try:
        written = make(
            flags.out, flags.seed, {"train": flags.train, "validation": flags.validation}
        )
    except KeyboardInterrupt:
        raise Stopped("by Ctrl-C; the same command makes the videos anew") from None
    size = sum(file.stat().st_size for file in flags.out.rglob("*.mp4")) / 1e6
    done = f"written in {time.monotonic() - started:.1f} s" if written else "already there"
    print(
        f"{flags.out}: {flags.train} training and {flags.validation} held-out videos of "
        f"{len(CLASSES)} classes, {size:.0f} MB, {done}"
    )


if __name__ == "__main__":
    sys.exit(exit_status(main))
