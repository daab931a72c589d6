"""The index of a split: where each record and each frame lies in its shards.

TFRecord files can only be read from their beginning; the index makes them random-access. It is one
file beside the shards, made while they are written or by one scan. It holds lengths and checksums,
so that a reader fetches only the frames it wants and still notices a flipped byte.
"""

import struct
from array import array
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from aia_jax.shards.index_builder import NO_LABEL, ShardIndexBuilder
from aia_jax.shards.index_file import (
    IndexFileError,
    Shard,
    check_file,
    header_bytes,
    map_file,
    parse_content,
    write_file,
)
from aia_jax.shards.label_sets import LabelSets

# Before a label feature's name: the columns of the first label, and of all labels of each record.
_LABEL, SET_START, SET_VALUES = "label:", "label_set_start:", "label_set:"
# Checksums and reads release the interpreter lock. More threads would hold more records in memory.
_SCAN_THREADS = 4


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
        labels: int64 [N] for each label feature; -1 where a record has none. The first label of a
            record that has several.
        height: int64 [N], pixels of the stored frames; 0 where unknown.
        width: int64 [N].
        fps: float32 [N]; 0 where unknown.
        damaged: bool [N]; a damaged record has no frames and no label.
        damage: the reason for each damaged record.
        video_id_start: int64 [N + 1]; the id of record i is
            `video_id_bytes[video_id_start[i]:video_id_start[i + 1]]`.
        video_id_bytes: uint8, all video ids in UTF-8.
        label_sets: of each label feature of which a record has several.
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
    label_sets: dict[str, LabelSets] = field(default_factory=dict)
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

    def label_set(self, label: str) -> LabelSets:
        """All labels of every record; a feature that the index lacks has none."""
        if label in self.label_sets:
            return self.label_sets[label]
        return LabelSets.gather(self.labels.get(label, np.full(len(self), NO_LABEL)), {})

    def multi_hot(
        self, label: str, records: np.ndarray | Sequence[int], num_classes: int
    ) -> np.ndarray:
        """uint8 [n, num_classes]: 1 at each label of each of the n records.

        Args:
            label: the label feature.
            records: int [n].
            num_classes: more than the largest label.
        """
        records = np.asarray(records, np.int64)
        if label in self.label_sets:
            rows, labels = self.label_sets[label].entries(records)
        else:
            first = self.labels[label][records]
            rows = np.flatnonzero(first != NO_LABEL)
            labels = first[rows]
        hot = np.zeros((len(records), num_classes), np.uint8)
        hot[rows, labels] = 1
        return hot

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
        first_records = np.cumsum([0, *map(len, parts)])
        names = sorted(set().union(*(part.labels for part in parts)))
        labels = {
            name: _concatenate(
                (part.labels.get(name, array("q", [NO_LABEL]) * len(part)) for part in parts),
                np.int64,
            )
            for name in names
        }
        several = {
            name: _join_records(
                first_records, [part.several_labels.get(name, {}) for part in parts]
            )
            for name in names
        }
        damage = _join_records(first_records, [part.damage for part in parts])
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
            labels=labels,
            height=_concatenate((part.height for part in parts), np.int64),
            width=_concatenate((part.width for part in parts), np.int64),
            fps=_concatenate((part.fps for part in parts), np.float32),
            damaged=damaged,
            damage=damage,
            video_id_start=_starts(np.array([len(video_id) for video_id in video_ids], np.int64)),
            video_id_bytes=np.frombuffer(b"".join(video_ids), np.uint8),
            label_sets={
                name: LabelSets.gather(labels[name], found)
                for name, found in several.items()
                if found
            },
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

    def columns(self, labels: Iterable[str], sets: Iterable[str]) -> dict[str, np.ndarray]:
        """The columns of an index file by name, in its order.

        Args:
            labels: the label features that the file has.
            sets: those of which it has all labels; one behind another as `LabelSets` holds them.
        """
        columns = {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if field.type is np.ndarray
        }
        unlabelled = np.full(len(self), NO_LABEL, np.int64)
        for name in labels:
            columns[_LABEL + name] = self.labels.get(name, unlabelled)
        for name in sets:
            columns[SET_START + name], columns[SET_VALUES + name] = self.label_set(name)
        return columns

    def save(self, path: str | Path) -> None:
        """Writes the index file, whole or not at all; several hosts may do so at once.

        Raises:
            OSError: if the folder takes no files.
        """
        columns = self.columns(self.labels, self.label_sets)
        kinds = [(name, column.dtype.str, len(column)) for name, column in columns.items()]
        header = header_bytes(self.shards, self.damage, kinds)
        write_file(Path(path), header, columns.values())

    @classmethod
    def load(cls, path: str | Path) -> "Index":
        """Opens an index file and checks it.

        The columns stay in the file, mapped into memory, so the processes of a machine share them.

        Raises:
            IndexFileError: if the file is damaged or of another version.
            OSError: if it cannot be read.
        """
        path = Path(path).absolute()
        return cls._map(path, check_file(path))

    @classmethod
    def _map(cls, path: Path, crc: int) -> "Index":
        """Maps a file that was checked before and had the checksum `crc`.

        Raises:
            DataError: if another file has taken its name since.
            IndexFileError: if it is no index, or of another version.
        """
        content = map_file(path, crc)
        try:
            header, columns = parse_content(content)
            labels, starts, values = (
                {
                    name.removeprefix(prefix): columns.pop(name)
                    for name in list(columns)
                    if name.startswith(prefix)
                }
                for prefix in (_LABEL, SET_START, SET_VALUES)
            )
            return cls(
                shards=tuple(Shard(*shard) for shard in header["shards"]),
                labels=labels,
                label_sets={name: LabelSets(starts[name], values[name]) for name in starts},
                damage=dict(header["damage"]),
                file=(path, crc),
                **columns,
            )
        except (ValueError, TypeError, LookupError, ArithmeticError, struct.error) as error:
            # Its checksum is right, so another program has written it.
            raise IndexFileError(f"it is no index that this program knows ({error})") from error

    def __reduce__(self):
        """Sends the file's name, or the columns of an index that has no file."""
        if self.file:
            # `Index._map` would not do: cloudpickle sends a class method with all it refers to.
            return _map_file, self.file
        return Index, tuple(getattr(self, field.name) for field in fields(self))


def _map_file(path: Path, crc: int) -> Index:
    return Index._map(path, crc)


def _join_records(firsts: np.ndarray, parts: Sequence[Mapping[int, Any]]) -> dict[int, Any]:
    """Entries by record of the split, of entries by record of each shard."""
    return {
        int(first) + record: entry
        for first, part in zip(firsts[:-1], parts, strict=True)
        for record, entry in part.items()
    }


def _concatenate(parts: Iterable[array], dtype: type) -> np.ndarray:
    return np.concatenate([np.empty(0, dtype), *(np.array(part, dtype) for part in parts)])


def _starts(lengths: np.ndarray) -> np.ndarray:
    """int64 [len(lengths) + 1]: where each of the lengths starts, and where the last one ends."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])
