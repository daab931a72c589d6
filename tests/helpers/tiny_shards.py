"""Shards to write, find and damage in a test."""

from pathlib import Path

from aia_jax.shards.tfrecord import RecordWriter


def write_shard(path: Path, records: list[bytes]) -> Path:
    with RecordWriter(path) as writer:
        for record in records:
            writer.write(record)
    return path


def flip_byte(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 0x10
    path.write_bytes(content)


def shard(folder: Path, number: int, split: str = "train") -> Path:
    return sorted(folder.glob(f"*-{split}.tfrecord-*"))[number]
