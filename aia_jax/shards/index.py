"""The index of a split: where each record and each frame lies in its shards.

TFRecord files can only be read from their beginning; the index makes them random-access. It is one
file beside the shards, made while they are written or by one scan. It holds lengths and checksums,
so that a reader fetches only the frames it wants and still notices a flipped byte.
"""

import json
import mmap
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
from aia_jax.files import atomic_file
from aia_jax.json_file import parse_json
from aia_jax.shards.index_builder import NO_LABEL, ShardIndexBuilder
from aia_jax.shards.tfrecord import crc32c

_MAGIC = b"AIAINDEX"
_VERSION = 1
_END_BLOCK = 64 * 1024  # bytes at each end of a shard that its fingerprint covers
_FILE_BLOCK = 1 << 24  # bytes of an index file that are checked at a time
# Checksums and reads release the interpreter lock. More threads would hold more records in memory.
_SCAN_THREADS = 4


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


@dataclass(frozen=True, eq=False)
class Index:
    """The index of a split: N records in S shards, F frames in all.

    Offsets are bytes from the start of the record's shard.

    Attributes:
        shards: the files in order, with their fingerprints.
        shard: int32 [N], the shard that holds each record; never decreases.
        record_offset: int64 [N], where the record's data begins.
        record_length: int64 [N], bytes of data.
        first_frame: int64 [N + 1]; the frames of record i are the entries
            `first_frame[i]:first_frame[i + 1]` of the next three columns.
        frame_offset: int64 [F].
        frame_length: int32 [F], bytes.
        frame_crc: uint32 [F], CRC32C.
        labels: int64 [N] for each label feature; -1 where a record has none.
        height: int64 [N], pixels of the stored frames; 0 where unknown.
        width: int64 [N].
        fps: float32 [N]; 0 where unknown.
        damaged: bool [N]; a damaged record has no frames and no label.
        damage: the reason for each damaged record.
        video_id_start: int64 [N + 1]; the id of record i is
            `video_id_bytes[video_id_start[i]:video_id_start[i + 1]]`.
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
        """The video's name in the raw data; bytes that are not UTF-8 appear as escapes."""
        start, stop = self.video_id_start[record : record + 2]
        return self.video_id_bytes[start:stop].tobytes().decode(errors="backslashreplace")

    def shard_and_number(self, record: int | np.integer) -> tuple[str, int]:
        """The name of the record's shard, and the record's number in that shard, from 0."""
        shard = self.shard[record]
        return self.shards[shard].name, int(record - self.first_record[shard])

    def describe(self, record: int | np.integer) -> str:
        """Names the record for a person: "shard X, record N, video ID", N from 0 in that shard."""
        shard, number = self.shard_and_number(record)
        return f"shard {shard}, record {number}, video {self.video_id(record)}"

    @classmethod
    def build(cls, shards: Sequence[str | Path]) -> "Index":
        """Builds the index of finished shards by reading and checking every byte of them.

        Raises:
            DataError: if a shard is cut short or a record cannot be found.
        """
        with ThreadPoolExecutor(_SCAN_THREADS) as pool:
            return cls.join(shards, list(pool.map(ShardIndexBuilder.scan, shards)))

    @classmethod
    def join(cls, shards: Sequence[str | Path], parts: Sequence[ShardIndexBuilder]) -> "Index":
        """Joins the indices of single shards: equal to `build`, without reading the shards.

        Args:
            shards: the finished files, in order.
            parts: the index of each, built while the file was written or scanned.
        """
        names = sorted(set().union(*(part.labels for part in parts)))
        first_records = np.cumsum([0, *map(len, parts)])
        damage = {
            int(first) + record: reason
            for first, part in zip(first_records[:-1], parts, strict=True)
            for record, reason in part.damage.items()
        }
        damaged = np.zeros(first_records[-1], np.bool_)
        damaged[list(damage)] = True
        video_ids = [video_id for part in parts for video_id in part.video_ids]
        return cls(
            shards=tuple(Shard.from_file(Path(path)) for path in shards),
            shard=np.repeat(np.arange(len(parts), dtype=np.int32), list(map(len, parts))),
            record_offset=_concatenate((part.record_offset for part in parts), np.int64),
            record_length=_concatenate((part.record_length for part in parts), np.int64),
            first_frame=_starts(_concatenate((part.frames_per_record for part in parts), np.int64)),
            frame_offset=_concatenate((part.frame_offset for part in parts), np.int64),
            frame_length=_concatenate((part.frame_length for part in parts), np.int32),
            frame_crc=_concatenate((part.frame_crc for part in parts), np.uint32),
            labels={
                name: _concatenate(
                    (part.labels.get(name, array("q", [NO_LABEL]) * len(part)) for part in parts),
                    np.int64,
                )
                for name in names
            },
            height=_concatenate((part.height for part in parts), np.int64),
            width=_concatenate((part.width for part in parts), np.int64),
            fps=_concatenate((part.fps for part in parts), np.float32),
            damaged=damaged,
            damage=damage,
            video_id_start=_starts(np.array([len(video_id) for video_id in video_ids], np.int64)),
            video_id_bytes=np.frombuffer(b"".join(video_ids), np.uint8),
        )

    def find_mismatch(self, shards: Sequence[str | Path]) -> str:
        """Says why this index is not that of the shard files; empty if it is."""
        if [shard.name for shard in self.shards] != [Path(path).name for path in shards]:
            return f"it describes {len(self.shards)} shards, {len(shards)} of other names are there"
        with ThreadPoolExecutor(_SCAN_THREADS) as pool:
            found = pool.map(lambda path: Shard.from_file(Path(path)), shards)
            for indexed, shard in zip(self.shards, found, strict=True):
                if indexed != shard:
                    return f"{shard.name} is not the file it was made for"
        return ""

    def save(self, path: str | Path) -> None:
        """Writes the index file, whole or not at all; several hosts may do so at once.

        The file holds, in this order: magic, length of the header, header in JSON, columns at
        multiples of 8 bytes, CRC32C of all before it.

        Raises:
            OSError: if the folder takes no files.
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
        with atomic_file(path, concurrent=True) as file:
            for content in (header, *map(np.ndarray.tobytes, columns.values())):
                content = _pad_to_8(content)
                crc = google_crc32c.extend(crc, content)
                file.write(content)
            file.write(struct.pack("<I", crc))

    @classmethod
    def load(cls, path: str | Path) -> "Index":
        """Opens an index file and checks it.

        The columns stay in the file, mapped into memory, so the processes of a machine share them.

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
        """Maps a file that was checked before and had the checksum `crc`.

        Raises:
            DataError: if another file has taken its name since.
            IndexFileError: if it is no index, or of another version.
        """
        with path.open("rb") as file:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if content[-4:] != struct.pack("<I", crc):
            raise DataError(
                f"the index {path} was replaced while a run was using it; start the run again"
            )
        if not content[: len(_MAGIC)] == _MAGIC:
            raise IndexFileError("it does not begin as an index does")
        try:
            return cls._parse(content, (path, crc))
        except (ValueError, TypeError, LookupError, ArithmeticError, struct.error) as error:
            # Its checksum is right, so another program has written it.
            raise IndexFileError(f"it is no index that this program knows ({error})") from error

    @classmethod
    def _parse(cls, content: mmap.mmap, file: tuple[Path, int]) -> "Index":
        start = len(_MAGIC) + 8
        stop = start + struct.unpack_from("<Q", content, len(_MAGIC))[0]
        header = parse_json(content[start:stop], dict, file_names=True)
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
        damage = dict(header["damage"])
        return cls(shards=shards, labels=labels, damage=damage, file=file, **columns)

    def __reduce__(self):
        """Sends the file's name, or the columns of an index that has no file."""
        if self.file:
            # `Index._map` would not do: cloudpickle sends a class method with all it refers to.
            return _map_file, self.file
        return Index, tuple(getattr(self, field.name) for field in fields(self))


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


def _map_file(path: Path, crc: int) -> Index:
    return Index._map(path, crc)


def _concatenate(parts: Iterable[array], dtype: type) -> np.ndarray:
    return np.concatenate([np.empty(0, dtype), *(np.array(part, dtype) for part in parts)])


def _starts(lengths: np.ndarray) -> np.ndarray:
    """int64 [len(lengths) + 1]: where each of the lengths starts, and where the last one ends."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])


def _pad_to_8(content: bytes) -> bytes:
    return content + b" " * (-len(content) % 8)
