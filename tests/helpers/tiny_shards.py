"""Writes, finds and damages shards."""

from pathlib import Path

from aia_jax.shards.tfrecord import RecordWriter


def write_shard(path: Path, records: list[bytes]) -> Path:
    with RecordWriter(path) as writer:
        for record in records:
            writer.write(record)
    return path


def flip_byte(path: Path, offset: int) -> None:
    """Changes one bit of the byte at `offset`."""
    content = bytearray(path.read_bytes())
    content[offset] ^= 0x10
    path.write_bytes(content)


def shard(folder: Path, number: int, split: str = "train") -> Path:
    """The file of shard `number` of a split."""
    return sorted(folder.glob(f"*-{split}.tfrecord-*"))[number]
