"""Splits of a few videos, and how to take and compare what the loader makes of them."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from aia_jax.data.augment import TrainTransform
from aia_jax.data.flips import flip_pairs
from aia_jax.shards.example import encode_example
from aia_jax.shards.reader import ShardReader, open_split
from aia_jax.shards.tfds_metadata import shard_name, write_metadata
from aia_jax.shards.tfrecord import RecordWriter
from tests.helpers.tiny_data import jpeg_frames

CLASSES = ("move left", "move right", "stand")


TRANSFORM = TrainTransform(num_frames=4, size=20, partner=flip_pairs(CLASSES).partner, resize=None)


def write_videos(folder: Path, videos: list[list[bytes]]) -> ShardReader:
    """A split of these JPEG pictures, right or wrong; checksums agree with them."""
    with RecordWriter(folder / shard_name("tiny", "train", 0, 1)) as writer:
        for number, jpegs in enumerate(videos):
            writer.write(
                encode_example(jpegs, {"label": number % 3}, f"video_{number}", 12.0, 24, 32)
            )
    write_metadata(
        folder, name="tiny", class_names={"label": CLASSES}, shard_lengths={"train": [len(videos)]}
    )
    return open_split(folder, "train")


def good_videos(count: int, frames: int = 10) -> list[list[bytes]]:
    rng = np.random.default_rng(0)
    return [jpeg_frames(rng, frames, (24, 32)) for _ in range(count)]


def take(batches: Iterator[dict], count: int | None = None) -> list[dict]:
    taken = list(islice(batches, count))
    batches.close()
    return taken


def assert_same(found: list[dict], expected: list[dict]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        for key, value in one.items():
            assert value.dtype == other[key].dtype
            np.testing.assert_array_equal(value, other[key], err_msg=key)
