"""Counts the loader's training clips a CPU-second, beside those of a plain Pillow + torch loader.

    python -m benchmarks.loader

Both do the same work: they read 8 frames of 240×320 of each video, cut the reference's multi-scale
crops to 224 and flip half of them. The plain loader reads one JPEG file a frame, as the reference
does, and normalises to float on the CPU, where this project sends uint8 and normalises on the
device. CPU time is that of this process and its workers, between two moments when all of them are
busy. Needs torch and pillow (the dev extra).

`--augment randaugment …` measures this loader with augmentations too, each in turn with the loader
without them: how many times as long a clip takes.
"""

import argparse
import itertools
import multiprocessing
import os
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
import torch
from PIL import Image

from aia_jax.data.augment import TrainTransform
from aia_jax.data.clip_changes import ColorJitter, RandomErasing
from aia_jax.data.crops import crop_offsets, crop_sizes
from aia_jax.data.pipeline import train_batches
from aia_jax.data.plan import BatchPlan
from aia_jax.data.rand_augment import RandAugment
from aia_jax.data.sampling import frame_indices
from aia_jax.shards.example import encode_example
from aia_jax.shards.index import Index
from aia_jax.shards.index_builder import ShardIndexBuilder
from aia_jax.shards.reader import open_split
from aia_jax.shards.tfds_metadata import shard_name, write_metadata
from aia_jax.shards.tfrecord import RecordWriter
from benchmarks import results

FRAMES, SIZE, HEIGHT, WIDTH = 8, 224, 240, 320
CLASSES = 2
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

# Fields of `TrainTransform` beside those of the plain work, by the name in --augment.
AUGMENTATIONS = {
    # Its usual two operations, and both are always carried out.
    "randaugment": {"changes": (RandAugment(2, 9.0, prob=1.0),)},
    "color_jitter": {"changes": (ColorJitter(0.4, 0.4, 0.4, 0.1),)},
    "resized_crop": {"resized_crop": (0.08, 1.0)},
    "erase": {"changes": (RandomErasing(1.0),)},
}


def make_videos(folder: Path, videos: int, frames: int, quality: int) -> float:
    """Writes the same JPEG pictures as a prepared data set and as folders of files.

    Returns:
        The mean size of a picture in bytes.
    """
    rng = np.random.default_rng(0)
    shard, shard_index, size = folder / shard_name("bench", "train", 0, 1), ShardIndexBuilder(), 0
    with RecordWriter(shard) as writer:
        for video in range(videos):
            scene = _texture(rng, HEIGHT + 2 * frames, WIDTH + 2 * frames)
            files = folder / "files" / str(video)
            files.mkdir(parents=True)
            jpegs = []
            for frame in range(frames):
                picture = np.ascontiguousarray(
                    scene[2 * frame : 2 * frame + HEIGHT, frame : frame + WIDTH]
                )
                jpegs.append(
                    simplejpeg.encode_jpeg(picture, quality=quality, colorsubsampling="420")
                )
                (files / f"{frame:05d}.jpg").write_bytes(jpegs[-1])
            size += sum(map(len, jpegs))
            record = encode_example(
                jpegs, {"label": video % CLASSES}, str(video), 12.0, HEIGHT, WIDTH
            )
            shard_index.add(record, writer.write(record))
    Index.join([shard], [shard_index]).save(folder / "train.index")
    write_metadata(
        folder,
        name="bench",
        class_names={"label": [str(k) for k in range(CLASSES)]},
        shard_lengths={"train": [videos]},
    )
    return size / (videos * frames)


def _texture(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A picture with about as much detail at every scale as a filmed one."""
    layers = [
        cv2.resize(
            rng.normal(size=(rows, rows * 4 // 3, 3)),
            (width, height),
            interpolation=cv2.INTER_CUBIC,
        )
        * 45
        / (number + 1) ** 1.2
        for number, rows in enumerate((4, 9, 20, 45, 100))
    ]
    return np.clip(sum(layers) + 120, 0, 255).astype(np.uint8)


def this_loader(folder: Path, batch: int, workers: int, augmentation: str = "") -> Iterator[int]:
    """Yields the number of clips in each batch, without end."""
    reader = open_split(folder, "train")
    transform = TrainTransform(
        FRAMES,
        SIZE,
        partner=np.arange(CLASSES),
        resize=(HEIGHT, WIDTH),
        **AUGMENTATIONS.get(augmentation, {}),
    )
    plan = BatchPlan(len(reader), batch, seed=0)
    batches = train_batches(reader, plan, transform, start_step=0, workers=workers, threads=1)
    try:
        for clips in batches:
            yield len(clips["clips"])
    finally:
        batches.close()


class PlainDataset(torch.utils.data.Dataset):
    """The reference's way: Pillow for every step, a picture at a time, normalised floats out."""

    def __init__(self, folder: Path, videos: int):
        self.folders = [folder / "files" / str(video) for video in range(videos)]

    def __len__(self) -> int:
        return 1 << 30

    def __getitem__(self, item: int) -> tuple[torch.Tensor, int]:
        folder = self.folders[item % len(self.folders)]
        count = len(list(folder.iterdir()))
        indices = frame_indices(count, FRAMES, "random", np.random.default_rng())[0]
        pictures = [Image.open(folder / f"{frame:05d}.jpg").convert("RGB") for frame in indices]
        pictures = [picture.resize((WIDTH, HEIGHT), Image.BILINEAR) for picture in pictures]
        width, height = random.choice(crop_sizes(HEIGHT, WIDTH, SIZE))
        x, y = random.choice(crop_offsets(HEIGHT, WIDTH, width, height))
        pictures = [picture.crop((x, y, x + width, y + height)) for picture in pictures]
        pictures = [picture.resize((SIZE, SIZE), Image.BILINEAR) for picture in pictures]
        if random.random() < 0.5:
            pictures = [picture.transpose(Image.FLIP_LEFT_RIGHT) for picture in pictures]
        stacked = np.concatenate([np.asarray(picture) for picture in pictures], axis=2)
        clip = torch.from_numpy(stacked).permute(2, 0, 1).contiguous().float().div(255)
        for channel, mean, std in zip(clip, MEAN * FRAMES, STD * FRAMES, strict=True):
            channel.sub_(mean).div_(std)
        return clip, item % CLASSES


def plain_loader(folder: Path, videos: int, batch: int, workers: int) -> Iterator[int]:
    """Yields the number of clips in each batch, without end."""
    loader = torch.utils.data.DataLoader(
        PlainDataset(folder, videos), batch_size=batch, num_workers=workers
    )
    for clips, _ in loader:
        yield len(clips)


def rate(loader: Iterator[int], warm_up: int, batches: int) -> tuple[float, float]:
    """Measures clips per CPU-second and per second of wall-clock time."""
    for _ in itertools.islice(loader, warm_up):
        pass
    cpu, wall = _cpu_seconds(), time.perf_counter()
    clips = sum(itertools.islice(loader, batches))
    cpu, wall = _cpu_seconds() - cpu, time.perf_counter() - wall
    loader.close()
    return clips / cpu, clips / wall


def _cpu_seconds() -> float:
    """CPU seconds of this process and of its living workers so far."""
    ticks = 0
    for child in multiprocessing.active_children():
        fields = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])  # user and system
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.loader", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--batch", type=int, default=16, help="clips of a batch")
    parser.add_argument("--batches", type=int, default=24, help="measured in each round")
    parser.add_argument("--rounds", type=int, default=3, help="the loaders take turns")
    parser.add_argument(
        "--workers", type=int, nargs="+", default=[0, 2], help="worker processes to try"
    )
    parser.add_argument(
        "--augment", nargs="+", default=[], choices=AUGMENTATIONS, help="to measure too"
    )
    parser.add_argument("--videos", type=int, default=64)
    parser.add_argument("--video-frames", type=int, default=40)
    parser.add_argument("--quality", type=int, default=90, help="of the JPEG pictures")
    results.add_option(parser)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        size = make_videos(folder, args.videos, args.video_frames, args.quality)
        print(
            f"{args.videos} videos of {args.video_frames} frames {HEIGHT}×{WIDTH}, quality "
            f"{args.quality}, {size / 1e3:.1f} kB a frame"
        )
        for workers in args.workers:
            warm_up = 2 * workers + 2
            found: list[tuple[float, tuple[float, float], tuple[float, float]]] = []
            augmented: dict[str, list[tuple[float, float]]] = {name: [] for name in args.augment}
            for _ in range(args.rounds):
                ours = rate(this_loader(folder, args.batch, workers), warm_up, args.batches)
                plain = rate(
                    plain_loader(folder, args.videos, args.batch, workers),
                    warm_up,
                    max(2, args.batches // 3),
                )
                found.append((ours[0] / plain[0], ours, plain))
                for name, ratios in augmented.items():
                    loader = this_loader(folder, args.batch, workers, name)
                    with_it, _ = rate(loader, warm_up, args.batches)
                    without, _ = rate(
                        this_loader(folder, args.batch, workers), warm_up, args.batches
                    )
                    ratios.append((without / with_it, with_it))
            ratio, ours, plain = sorted(found)[len(found) // 2]
            print(
                f"{workers} workers: {ours[0]:.0f} clips per CPU-second ({ours[1]:.0f}/s "
                f"wall-clock), plain {plain[0]:.0f} ({plain[1]:.0f}/s): ratio {ratio:.2f} "
                f"(median of {', '.join(f'{one[0]:.2f}' for one in sorted(found))})"
            )
            results.write(
                args.json,
                f"loader, {workers} workers",
                f"{ours[0]:.0f} clips a CPU-second",
                "Pillow + torch loader",
                ratio,
            )
            for name, ratios in augmented.items():
                ratio, with_it = sorted(ratios)[len(ratios) // 2]
                print(
                    f"{workers} workers, {name}: {with_it:.0f} clips per CPU-second, {ratio:.2f} × "
                    f"the time without (median of "
                    f"{', '.join(f'{one[0]:.2f}' for one in sorted(ratios))})"
                )
                results.write(
                    args.json,
                    f"loader, {workers} workers, {name}",
                    f"{with_it:.0f} clips a CPU-second",
                    "without it (time)",
                    ratio,
                )


if __name__ == "__main__":
    main()
