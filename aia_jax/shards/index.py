"""Where every record and every frame of a split lies: what makes plain TFRecord shards
random-access.

The index is one file beside the shards, made while they are written or by one scan. It holds
lengths and checksums, so that a reader fetches only the frames it wants and still notices a flipped
byte.
"""

import json
import mmap
import os
import socket
import struct
from array import array
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import google_crc32c
import numpy as np

from aia_jax.errors import DataError
from aia_jax.shards.index_rows import NO_LABEL, ShardRows
from aia_jax.shards.tfrecord import atomic_file, crc32c

_MAGIC = b"AIAINDEX"
_VERSION = 1
_END_BLOCK = 64 * 1024  # bytes at each end of a shard that its fingerprint covers
_FILE_BLOCK = 1 << 24  # bytes of an index file that are checked at a time
# checksums and reads release the interpreter lock; more would only hold more records in memory
_SCAN_THREADS = 4


class IndexFileError(Exception):
    """An index file that cannot be used; the reason is its text."""


class Shard(NamedTuple):
    """A shard's name and fingerprint: size in bytes, CRC32C of its first and of its last 64 KiB.
    Copies have the same one.
    """

    name: str
    size: int
    head_crc: int
    tail_crc: int

    @classmethod
    def of(cls, path: Path) -> "Shard":
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(_END_BLOCK)
            file.seek(max(0, size - _END_BLOCK))
            return cls(path.name, size, crc32c(head), crc32c(file.read(_END_BLOCK)))


@dataclass(frozen=True, eq=False)
class Index:
    """The rows of a split: N records in S shards, F frames in all. Offsets are bytes from the start
    of the record's shard.

    Attributes:
        shards: the files in order, with their fingerprints.
        shard: int32 [N], the shard that holds each record; never decreases.
        record_offset: int64 [N], where the record's data begins.
        record_length: int64 [N], bytes of data.
        first_frame: int64 [N + 1], the record's frames are the rows `first_frame[i]:first_frame[i +
            1]` of the next three.
        frame_offset: int64 [F].
        frame_length: int32 [F], bytes.
        frame_crc: uint32 [F], CRC32C.
        labels: int64 [N] for each integer feature; -1 where a record has none.
        height: int64 [N], pixels of the stored frames; 0 where unknown.
        width: int64 [N].
        fps: float32 [N]; 0 where unknown.
        damaged: bool [N]; a damaged record has no frames and no label.
        damage: why, for each damaged record.
        video_id_start: int64 [N + 1], as `first_frame`, into the next.
        video_id_bytes: uint8, all video ids in UTF-8.
        file: the index file that the columns lie in, and its checksum; None for an index in memory.
    """

    shards: tuple[Shard, ...]
    shard: np.ndarray
    record_offset: np.ndarray
    record_length: np.ndarray
    first_frame: np.ndarray
    frame_offset: np.ndarray
    frame_length: np.ndarray
    frame_crc: np.ndarray
    labels: dict[str, np.ndarray]
    height: np.ndarray
    width: np.ndarray
    fps: np.ndarray
    damaged: np.ndarray
    damage: dict[int, str]
    video_id_start: np.ndarray
    video_id_bytes: np.ndarray
    file: tuple[Path, int] | None = None

    def __len__(self) -> int:
        return len(self.shard)

    @cached_property
    def num_frames(self) -> np.ndarray:
        """int64 [N]; 0 for a damaged record."""
        return np.diff(self.first_frame)

    @cached_property
    def first_record(self) -> np.ndarray:
        """int64 [S + 1]: the records of shard s are `first_record[s]:first_record[s + 1]`."""
        return np.searchsorted(self.shard, np.arange(len(self.shards) + 1))

    def video_id(self, record: int | np.integer) -> str:
        """The video's name in the raw data; bytes that are not UTF-8 show as escapes."""
        start, stop = self.video_id_start[record : record + 2]
        return self.video_id_bytes[start:stop].tobytes().decode(errors="backslashreplace")

    def shard_and_number(self, record: int | np.integer) -> tuple[str, int]:
        """The name of the record's shard, and which record of that shard it is, from 0."""
        shard = self.shard[record]
        return self.shards[shard].name, int(record - self.first_record[shard])

    def describe(self, record: int | np.integer) -> str:
        """The record for a person: "shard X, record N, video ID"; N counts from 0 in that shard."""
        shard, number = self.shard_and_number(record)
        return f"shard {shard}, record {number}, video {self.video_id(record)}"

    @classmethod
    def build(cls, shards: Sequence[str | Path]) -> "Index":
        """Scans the shards and checks every byte of them.

        Raises:
            DataError: if a shard is cut short or cannot be followed.
        """
        with ThreadPoolExecutor(_SCAN_THREADS) as pool:
            return cls.join(shards, list(pool.map(ShardRows.scan, shards)))

    @classmethod
    def join(cls, shards: Sequence[str | Path], rows: Sequence[ShardRows]) -> "Index":
        """Puts the rows of the finished shard files, gathered while they were written, together:
        equal to `build`, without reading them.
        """
        names = sorted(set().union(*(part.labels for part in rows)))
        firsts = np.cumsum([0, *map(len, rows)])
        damage = {
            int(first) + record: why
            for first, part in zip(firsts[:-1], rows, strict=True)
            for record, why in part.damage.items()
        }
        damaged = np.zeros(firsts[-1], np.bool_)
        damaged[list(damage)] = True
        video_ids = [video_id for part in rows for video_id in part.video_ids]
        return cls(
            shards=tuple(Shard.of(Path(path)) for path in shards),
            shard=np.repeat(np.arange(len(rows), dtype=np.int32), list(map(len, rows))),
            record_offset=_column((part.record_offset for part in rows), np.int64),
            record_length=_column((part.record_length for part in rows), np.int64),
            first_frame=_starts(_column((part.frames_of_record for part in rows), np.int64)),
            frame_offset=_column((part.frame_offset for part in rows), np.int64),
            frame_length=_column((part.frame_length for part in rows), np.int32),
            frame_crc=_column((part.frame_crc for part in rows), np.uint32),
            labels={
                n: _column(
                    (part.labels.get(n, array("q", [NO_LABEL]) * len(part)) for part in rows),
                    np.int64,
                )
                for n in names
            },
            height=_column((part.height for part in rows), np.int64),
            width=_column((part.width for part in rows), np.int64),
            fps=_column((part.fps for part in rows), np.float32),
            damaged=damaged,
            damage=damage,
            video_id_start=_starts(np.array([len(video_id) for video_id in video_ids], np.int64)),
            video_id_bytes=np.frombuffer(b"".join(video_ids), np.uint8),
        )

    def differs_from(self, shards: Sequence[str | Path]) -> str:
        """Why this index is not that of the shard files; empty if it is."""
        if [shard.name for shard in self.shards] != [Path(path).name for path in shards]:
            return f"it describes {len(self.shards)} shards, {len(shards)} of other names are there"
        with ThreadPoolExecutor(_SCAN_THREADS) as pool:
            found = pool.map(lambda path: Shard.of(Path(path)), shards)
            return next(
                (
                    f"{now.name} is not the file it was made for"
                    for was, now in zip(self.shards, found, strict=True)
                    if was != now
                ),
                "",
            )

    def save(self, path: str | Path) -> None:
        """Writes the index file, whole or not at all; several hosts may do so at once. `OSError`
        where the folder takes no files.

        The file: magic, length of the header, header in JSON, columns at multiples of 8 bytes,
        CRC32C of all before it.
        """
        path = Path(path)
        columns = {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if field.type is np.ndarray
        }
        columns |= {f"label:{name}": column for name, column in self.labels.items()}
        header = header_bytes(
            self.shards,
            self.damage,
            [(name, column.dtype.str, len(column)) for name, column in columns.items()],
        )
        crc = 0
        with atomic_file(path, f"{path.name}.{socket.gethostname()}.{os.getpid()}.tmp") as file:
            for part in (header, *map(np.ndarray.tobytes, columns.values())):
                part = _padded(part)
                crc = google_crc32c.extend(crc, part)
                file.write(part)
            file.write(struct.pack("<I", crc))

    @classmethod
    def load(cls, path: str | Path) -> "Index":
        """Opens an index file. Its columns stay in the file, mapped into memory, so that the
        processes of a machine share them.

        Raises:
            IndexFileError: if the file is damaged or of another version.
            OSError: if it cannot be read.
        """
        path = Path(path).absolute()
        crc, left = 0, path.stat().st_size - 4
        with path.open("rb") as file:
            while block := file.read(min(left, _FILE_BLOCK)) if left > 0 else b"":
                crc = google_crc32c.extend(crc, block)
                left -= len(block)
            if left or file.read() != struct.pack("<I", crc):
                raise IndexFileError("it does not match its checksum")
        return cls._map(path, crc)

    @classmethod
    def _map(cls, path: Path, crc: int) -> "Index":
        """Maps a file whose checksum is known to be right; `DataError` if another has taken its
        place since.
        """
        with path.open("rb") as file:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if content[-4:] != struct.pack("<I", crc):
            raise DataError(
                f"the index {path} was replaced while a run was using it; start the run again"
            )
        start = len(_MAGIC) + 8
        if not content[:start].startswith(_MAGIC):
            raise IndexFileError("it does not begin as an index does")
        stop = start + struct.unpack_from("<Q", content, len(_MAGIC))[0]
        header = json.loads(content[start:stop])
        if header["version"] != _VERSION:
            raise IndexFileError(
                f"it is of version {header['version']}, this program reads {_VERSION}"
            )
        columns = {}
        for name, dtype, length in header["columns"]:
            columns[name] = np.frombuffer(content, dtype, length, offset=stop)
            stop += -(-columns[name].nbytes // 8) * 8
        labels = {
            name.removeprefix("label:"): columns.pop(name)
            for name in list(columns)
            if name.startswith("label:")
        }
        shards = tuple(Shard(*shard) for shard in header["shards"])
        return cls(
            shards=shards, labels=labels, damage=dict(header["damage"]), file=(path, crc), **columns
        )

    def __reduce__(self):
        """A worker process opens the file itself; rows that are only in memory travel."""
        if self.file:
            return (
                _map_again,
                self.file,
                # a function of this module: cloudpickle takes class methods apart and sends all
                # they refer to
            )
        return Index, tuple(getattr(self, field.name) for field in fields(self))


def header_bytes(
    shards: Sequence[Shard], damage: Mapping[int, str], columns: Sequence[tuple[str, str, int]]
) -> bytes:
    """What an index file begins with, up to its first column. `columns`: name, NumPy's dtype string
    and length of each.
    """
    header = {
        "version": _VERSION,
        "shards": shards,
        "damage": list(damage.items()),
        "columns": columns,
    }
    text = _padded(json.dumps(header).encode())
    return _MAGIC + struct.pack("<Q", len(text)) + text


def _map_again(path: Path, crc: int) -> Index:
    return Index._map(path, crc)


def _column(parts: Iterable[array], dtype: type) -> np.ndarray:
    return np.concatenate([np.empty(0, dtype), *(np.array(part, dtype) for part in parts)])


def _starts(lengths: np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])


def _padded(content: bytes) -> bytes:
    return content + b" " * (-len(content) % 8)
