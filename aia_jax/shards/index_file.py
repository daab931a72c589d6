"""The bytes of an index file: a header in JSON, then columns, then a checksum of all before it."""

import json
import mmap
import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import google_crc32c
import numpy as np

from aia_jax.errors import DataError
from aia_jax.files import atomic_file
from aia_jax.json_file import parse_json
from aia_jax.shards.tfrecord import crc32c

_MAGIC = b"AIAINDEX"
_VERSION = 1
_END_BLOCK = 64 * 1024  # bytes at each end of a shard that its fingerprint covers
_FILE_BLOCK = 1 << 24  # bytes of an index file that are checked at a time


class IndexFileError(Exception):
    """An index file that cannot be used; the reason is its text."""


class Shard(NamedTuple):
    """A shard's name and fingerprint, which is the same for copies of the file.

    Attributes:
        name: the file's name.
        size: bytes.
        head_crc: CRC32C of its first 64 KiB.
        tail_crc: CRC32C of its last 64 KiB.
    """

    name: str
    size: int
    head_crc: int
    tail_crc: int

    @classmethod
    def from_file(cls, path: Path) -> "Shard":
        """Takes the fingerprint of a file."""
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(_END_BLOCK)
            file.seek(max(0, size - _END_BLOCK))
            return cls(path.name, size, crc32c(head), crc32c(file.read(_END_BLOCK)))


def header_bytes(
    shards: Sequence[Shard], damage: Mapping[int, str], columns: Sequence[tuple[str, str, int]]
) -> bytes:
    """The bytes of an index file up to its first column.

    Args:
        shards: with their fingerprints.
        damage: reason by record.
        columns: name, NumPy dtype string and length of each column.
    """
    header = {
        "version": _VERSION,
        "shards": shards,
        "damage": list(damage.items()),
        "columns": columns,
    }
    text = _pad_to_8(json.dumps(header).encode())
    return _MAGIC + struct.pack("<Q", len(text)) + text


def write_file(path: Path, header: bytes, columns: Iterable[np.ndarray]) -> None:
    """Writes an index file, whole or not at all; several hosts may do so at once.

    The file holds, in this order: magic, length of the header, header in JSON, columns at
    multiples of 8 bytes, CRC32C of all before it.
    """
    crc = 0
    with atomic_file(path, concurrent=True) as file:
        for content in (header, *map(np.ndarray.tobytes, columns)):
            content = _pad_to_8(content)
            crc = google_crc32c.extend(crc, content)
            file.write(content)
        file.write(struct.pack("<I", crc))


def check_file(path: Path) -> int:
    """Reads an index file and returns its checksum; raises `IndexFileError` if it has another."""
    crc, left = 0, path.stat().st_size - 4
    with path.open("rb") as file:
        while block := file.read(min(left, _FILE_BLOCK)) if left > 0 else b"":
            crc = google_crc32c.extend(crc, block)
            left -= len(block)
        if left or file.read() != struct.pack("<I", crc):
            raise IndexFileError("it does not match its checksum")
    return crc


def map_file(path: Path, crc: int) -> mmap.mmap:
    """Maps a file that was checked before and had the checksum `crc`.

    Raises:
        DataError: if another file has taken its name since.
        IndexFileError: if it is no index.
    """
    with path.open("rb") as file:
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    if content[-4:] != struct.pack("<I", crc):
        raise DataError(
            f"the index {path} was replaced while a run was using it; start the run again"
        )
    if not content[: len(_MAGIC)] == _MAGIC:
        raise IndexFileError("it does not begin as an index does")
    return content


def parse_content(content: mmap.mmap) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The header, with "shards" and "damage", and the columns by name; these stay in the file.

    Raises:
        IndexFileError: if it is of another version. Other errors, if another program wrote it.
    """
    start = len(_MAGIC) + 8
    stop = start + struct.unpack_from("<Q", content, len(_MAGIC))[0]
    header = parse_json(content[start:stop], dict, file_names=True)
    if header["version"] != _VERSION:
        raise IndexFileError(f"it is of version {header['version']}, this program reads {_VERSION}")
    columns = {}
    for name, dtype, length in header["columns"]:
        columns[name] = np.frombuffer(content, dtype, length, offset=stop)
        stop += -(-columns[name].nbytes // 8) * 8
    return header, columns


def _pad_to_8(content: bytes) -> bytes:
    return content + b" " * (-len(content) % 8)
