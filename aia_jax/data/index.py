"""Where every record and every frame of a split lies: what makes plain TFRecord shards random-access.

The index is one file beside the shards, made while they are written or by one scan. It holds lengths and checksums, so that a
reader fetches only the frames it wants and still notices a flipped byte.
"""

import json
import os
import socket
import struct
from array import array
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from aia_jax.data import example
from aia_jax.data.example import ExampleError
from aia_jax.data.framing import atomic_file, crc32c, scan_records

NO_LABEL = -1  # of a record that is damaged or lacks the feature
_MAGIC = b"AIAINDEX"
_VERSION = 1
_END_BLOCK = 64 * 1024  # bytes at each end of a shard that its fingerprint covers
_SCAN_THREADS = 4  # checksums and reads release the interpreter lock; more would only hold more records in memory
_NOT_LABELS = (example.NUM_FRAMES, example.HEIGHT, example.WIDTH)


class IndexFileError(Exception):
    """An index file that cannot be used; the reason is its text."""


class Shard(NamedTuple):
    """A shard's name and fingerprint: size in bytes, CRC32C of its first and of its last 64 KiB. Copies have the same one."""

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


class ShardRows:
    """The index rows of one shard, gathered record by record, while the shard is written or scanned. Can be pickled."""

    def __init__(self):
        self.record_offset, self.record_length = array("q"), array("q")
        self.height, self.width, self.fps = array("q"), array("q"), array("f")
        self.frames_of_record = array("q")
        self.frame_offset, self.frame_length, self.frame_crc = array("q"), array("i"), array("I")
        self.labels: dict[str, array] = {}
        self.video_ids: list[bytes] = []
        self.damage: dict[int, str] = {}  # record → reason

    def __len__(self) -> int:
        return len(self.record_offset)

    @classmethod
    def scan(cls, path: str | Path) -> "ShardRows":
        """Reads a whole shard; `DataError` where it is cut short or cannot be followed (see `scan_records`)."""
        rows = cls()
        for record in scan_records(path):
            rows.add(record.data, record.offset, "" if record.intact else "its data does not match the checksum stored with it")
        return rows

    def add(self, record: bytes, offset: int, damage: str = "") -> None:
        """Appends the row of one record.

        A record that is no video becomes a damaged row: no frames, label -1, its reason kept.

        Args:
            record: the serialized `tf.train.Example`.
            offset: where it begins in the shard, as `RecordWriter.write` returned.
            damage: why the record is known to be damaged; empty if it is not.
        """
        features, spans = {}, []
        try:
            features = example.parse_example(record)
            spans = _frame_spans(features)
        except ExampleError as error:
            damage = damage or f"not a record of a video: {error}"
        if damage:
            self.damage[len(self)] = damage
            spans = []
        integers = {} if damage else {name: f.values[0] for name, f in features.items() if f.kind == "int" and len(f.values) == 1}
        labels = {name: value for name, value in integers.items() if name not in _NOT_LABELS}
        for name in labels.keys() - self.labels.keys():
            self.labels[name] = array("q", [NO_LABEL]) * len(self)
        for name, column in self.labels.items():
            column.append(labels.get(name, NO_LABEL))
        self.height.append(integers.get(example.HEIGHT, 0))
        self.width.append(integers.get(example.WIDTH, 0))
        fps = features.get(example.FPS)
        self.fps.append(fps.values[0] if fps and fps.kind == "float" and fps.values else 0.0)
        video_id = features.get(example.VIDEO_ID)
        place, length = video_id.values[0] if video_id and video_id.kind == "bytes" and video_id.values else (0, 0)
        self.video_ids.append(record[place : place + length])
        for place, length in spans:
            self.frame_offset.append(offset + place)
            self.frame_length.append(length)
            self.frame_crc.append(crc32c(record[place : place + length]))
        self.frames_of_record.append(len(spans))
        self.record_length.append(len(record))
        self.record_offset.append(offset)


def _frame_spans(features: dict[str, example.Feature]) -> list[tuple[int, int]]:
    frames = features.get(example.FRAMES)
    if frames is None:
        raise ExampleError(f"no feature {example.FRAMES!r} among {sorted(features)}")
    if frames.kind != "bytes" or not frames.values:
        raise ExampleError(f"the feature {example.FRAMES!r} holds no pictures")
    return frames.values


@dataclass(frozen=True, eq=False)
class Index:
    """The rows of a split: N records in S shards, F frames in all. Offsets are bytes from the start of the record's shard.

    Attributes:
        shards: the files in order, with their fingerprints.
        shard: int32 [N], the shard that holds each record; never decreases.
        record_offset: int64 [N], where the record's data begins.
        record_length: int64 [N], bytes of data.
        first_frame: int64 [N + 1], the record's frames are the rows `first_frame[i]:first_frame[i + 1]` of the next three.
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

    def video_id(self, record: int) -> str:
        """The video's name in the raw data; bytes that are not UTF-8 show as escapes."""
        start, stop = self.video_id_start[record : record + 2]
        return self.video_id_bytes[start:stop].tobytes().decode(errors="backslashreplace")

    def shard_and_number(self, record: int) -> tuple[str, int]:
        """The name of the record's shard, and which record of that shard it is, from 0."""
        shard = self.shard[record]
        return self.shards[shard].name, int(record - self.first_record[shard])

    def describe(self, record: int) -> str:
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
        """Puts the rows of the finished shard files, gathered while they were written, together: equal to `build`, without reading them."""
        names = sorted(set().union(*(part.labels for part in rows)))
        firsts = np.cumsum([0, *map(len, rows)])
        damage = {int(first) + record: why for first, part in zip(firsts, rows, strict=False) for record, why in part.damage.items()}
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
            labels={n: _column((part.labels.get(n, array("q", [NO_LABEL]) * len(part)) for part in rows), np.int64) for n in names},
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
                (f"{now.name} is not the file it was made for" for was, now in zip(self.shards, found, strict=True) if was != now), ""
            )

    def to_bytes(self) -> bytes:
        """The index file: magic, header length, JSON header, columns at multiples of 8 bytes, CRC32C of all before it."""
        columns = {field.name: getattr(self, field.name) for field in fields(self) if isinstance(getattr(self, field.name), np.ndarray)}
        columns |= {f"label:{name}": column for name, column in self.labels.items()}
        header = {
            "version": _VERSION,
            "shards": self.shards,
            "damage": list(self.damage.items()),
            "columns": [(name, column.dtype.str, len(column)) for name, column in columns.items()],
        }
        text = _padded(json.dumps(header).encode())
        body = b"".join([_MAGIC, struct.pack("<Q", len(text)), text, *(_padded(column.tobytes()) for column in columns.values())])
        return body + struct.pack("<I", crc32c(body))

    @classmethod
    def from_bytes(cls, content: bytes) -> "Index":
        """Reads what `to_bytes` wrote; `IndexFileError` where it cannot."""
        if not content.startswith(_MAGIC):
            raise IndexFileError("it does not begin as an index does")
        if crc32c(content[:-4]) != struct.unpack("<I", content[-4:])[0]:
            raise IndexFileError("it does not match its checksum")
        start = len(_MAGIC) + 8
        stop = start + struct.unpack_from("<Q", content, len(_MAGIC))[0]
        header = json.loads(content[start:stop])
        if header["version"] != _VERSION:
            raise IndexFileError(f"it is of version {header['version']}, this program reads {_VERSION}")
        columns = {}
        for name, dtype, length in header["columns"]:
            columns[name] = np.frombuffer(content, dtype, length, offset=stop)
            stop += -(-columns[name].nbytes // 8) * 8
        labels = {name.removeprefix("label:"): columns.pop(name) for name in list(columns) if name.startswith("label:")}
        shards = tuple(Shard(*shard) for shard in header["shards"])
        return cls(shards=shards, labels=labels, damage=dict(header["damage"]), **columns)

    def save(self, path: str | Path) -> None:
        """Writes the index file, whole or not at all; several hosts may do so at once. `OSError` where the folder takes no files."""
        path = Path(path)
        with atomic_file(path, f"{path.name}.{socket.gethostname()}.{os.getpid()}.tmp") as file:
            file.write(self.to_bytes())

    @classmethod
    def load(cls, path: str | Path) -> "Index":
        """Reads an index file; `IndexFileError` where it is damaged, `OSError` where it cannot be read."""
        return cls.from_bytes(Path(path).read_bytes())


def _column(parts: Iterable[array], dtype: type) -> np.ndarray:
    return np.concatenate([np.empty(0, dtype), *(np.array(part, dtype) for part in parts)])


def _starts(lengths: np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])


def _padded(content: bytes) -> bytes:
    return content + b" " * (-len(content) % 8)
