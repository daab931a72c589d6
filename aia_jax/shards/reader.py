"""Random access to a split: the bytes of just the frames that a clip uses, each one checked."""

import logging
import os
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from aia_jax.errors import DataError
from aia_jax.shards.dataset_info import split_shards
from aia_jax.shards.index import Index, IndexFileError
from aia_jax.shards.tfrecord import FOOTER_BYTES, crc32c, masked_crc32c

_MAX_OPEN = 256  # shards that stay open; those beyond are opened for each read
_log = logging.getLogger(__name__)


class DamagedRecord(Exception):
    """A record cannot be used: its bytes are missing, differ from their checksum, or are no video.

    Attributes:
        shard: the file's name.
        record: which record of that file, from 0.
        video_id: the video's name in the raw data, as far as it is known.
        reason: says what is damaged.
    """

    def __init__(self, shard: str, record: int, video_id: str, reason: str):
        super().__init__(shard, record, video_id, reason)
        self.shard, self.record, self.video_id, self.reason = shard, record, video_id, reason

    def __str__(self) -> str:
        return f"shard {self.shard}, record {self.record}, video {self.video_id}: {self.reason}"


class ShardReader:
    """Reads frames and records of a split in any order, from any thread or process.

    Files are opened when first read; a copy sent to another process opens its own.

    Attributes:
        index: of the split.
    """

    def __init__(self, shards: Sequence[Path], index: Index):
        self._shards = tuple(shards)
        self.index = index
        self._reset_files()

    def _reset_files(self) -> None:
        self._descriptors: dict[int, int] = {}
        # Bytes read, by thread: each thread adds to its own number, which needs no lock. A lock
        # could be held while the process forks.
        self._read_by_thread: dict[int, int] = {}
        self._close = weakref.finalize(self, _close_all, self._descriptors)

    def __getstate__(self) -> tuple:
        return self._shards, self.index

    def __setstate__(self, state: tuple) -> None:
        self._shards, self.index = state
        self._reset_files()

    def __len__(self) -> int:
        return len(self.index)

    @property
    def bytes_read(self) -> int:
        """Bytes that this object has fetched from the shards, in this process."""
        return sum(list(self._read_by_thread.values()))

    def describe(self, record: int | np.integer) -> str:
        """Names the record for a person: "shard X, record N, video ID"."""
        return self.index.describe(record)

    def read_frames(
        self, record: int | np.integer, frames: Sequence[int] | np.ndarray
    ) -> list[bytes]:
        """Fetches the encoded pictures (JPEG) of some frames, and nothing else of the record.

        Args:
            record: 0 to `len(self) - 1`.
            frames: numbers in the video, from 0, in any order; a frame that is named twice is
                fetched once.

        Raises:
            DamagedRecord: if the record is damaged, or one of these frames is.
            IndexError: for a record or frame that does not exist.
            DataError: if the shard cannot be opened.
        """
        index = self.index
        if not 0 <= record < len(index):
            raise IndexError(f"record {record} of {len(index)}")
        if index.damaged[record]:
            raise self._damaged(record, index.damage[int(record)])
        first, stop = map(int, index.first_frame[record : record + 2])
        contents = {}
        for frame in frames:
            if not 0 <= frame < stop - first:
                raise IndexError(
                    f"{self.describe(record)} has frames 0 to {stop - first - 1}, not {frame}"
                )
            if frame not in contents:
                entry = first + int(frame)
                content = self._fetch(
                    record, int(index.frame_offset[entry]), int(index.frame_length[entry])
                )
                if crc32c(content) != index.frame_crc[entry]:
                    raise self._damaged(record, f"frame {frame} does not match its checksum")
                contents[frame] = content
        return [contents[frame] for frame in frames]

    def read_record(self, record: int | np.integer) -> bytes:
        """Fetches the whole serialized `tf.train.Example`.

        Raises:
            DamagedRecord: if it differs from the checksum stored with it.
            DataError: if the shard cannot be opened.
        """
        length = int(self.index.record_length[record])
        content = self._fetch(record, int(self.index.record_offset[record]), length + FOOTER_BYTES)
        data = content[:length]
        if masked_crc32c(data).to_bytes(FOOTER_BYTES, "little") != content[length:]:
            raise self._damaged(record, "its data does not match the checksum stored with it")
        return data

    def _fetch(self, record: int | np.integer, offset: int, length: int) -> bytes:
        """Reads bytes of the record's shard, from `offset` in the shard."""
        shard = int(self.index.shard[record])
        descriptor, close_after_use = self._descriptor(shard)
        try:
            parts = []
            # A network file system may return fewer bytes than it is asked for.
            while length and (part := os.pread(descriptor, length, offset)):
                parts.append(part)
                offset, length = offset + len(part), length - len(part)
        except OSError as error:
            raise self._damaged(
                record, f"the shard cannot be read there ({error.strerror})"
            ) from error
        finally:
            if close_after_use:
                os.close(descriptor)
        content = b"".join(parts)
        thread = threading.get_ident()
        self._read_by_thread[thread] = self._read_by_thread.get(thread, 0) + len(content)
        if length:
            raise self._damaged(record, f"the shard is cut short: byte {offset} is not there")
        return content

    def _descriptor(self, shard: int) -> tuple[int, bool]:
        """The shard's open file, and whether the caller has to close it."""
        descriptor = self._descriptors.get(shard)
        if descriptor is not None:
            return descriptor, False
        try:
            opened = os.open(self._shards[shard], os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise DataError(
                f"the shard {self._shards[shard]} cannot be opened ({error.strerror}); put it back "
                "or prepare it again"
            ) from error
        if len(self._descriptors) >= _MAX_OPEN:
            return opened, True
        descriptor = self._descriptors.setdefault(shard, opened)
        if descriptor != opened:  # another thread has opened the shard meanwhile
            os.close(opened)
        return descriptor, False

    def _damaged(self, record: int | np.integer, reason: str) -> DamagedRecord:
        return DamagedRecord(
            *self.index.shard_and_number(record), self.index.video_id(record), reason
        )


def _close_all(descriptors: dict[int, int]) -> None:
    while descriptors:
        os.close(descriptors.popitem()[1])


def open_split(folder: str | Path, split: str) -> ShardReader:
    """Opens a split of a prepared data set.

    The index `<split>.index` is used if it belongs to the shards. Otherwise it is made again by one
    scan, which reads every byte, and saved; if the folder takes no files, it stays in memory. One
    line in the log says so.

    Args:
        folder: the prepared data set.
        split: as "train".

    Raises:
        DataError: if the data set, the split or a shard is missing, a shard is cut short or holds
            another number of records than the metadata says, or no record holds frames; one line
            that says what to do.
    """
    shards = split_shards(folder, split)
    path = Path(folder) / f"{split}.index"
    try:
        index = Index.load(path)
        problem = index.find_mismatch(list(shards))
    except FileNotFoundError:
        problem = "there is none"
    except (IndexFileError, OSError) as error:
        problem = str(error)
    if problem:
        size = sum(shard.stat().st_size for shard in shards)
        _log.warning(
            "index %s: %s; making it from the %d shards (%.2f GB)",
            path,
            problem,
            len(shards),
            size / 1e9,
        )
        try:
            index = Index.build(list(shards))
        except OSError as error:
            raise DataError(
                f"a shard of the split {split} cannot be read ({error}); allow reading it, copy it "
                "again from its source, or prepare the data set again"
            ) from error
    _check_counts(index, shards)
    if problem:
        try:
            index.save(path)
            index = Index.load(path)
        except OSError as error:
            _log.warning(
                "index %s cannot be saved (%s): it is kept in memory, the next run makes it again",
                path,
                error.strerror,
            )
    return ShardReader(tuple(shards), index)


def _check_counts(index: Index, shards: dict[Path, int]) -> None:
    """Compares each shard's number of records with what the metadata says (`shards`)."""
    for (path, expected), count in zip(shards.items(), np.diff(index.first_record), strict=True):
        if count != expected:
            cause = "it was cut short" if count < expected else "it belongs to another preparation"
            raise DataError(
                f"{path} holds {count} records, dataset_info.json says {expected}: {cause}; "
                "copy the file again from its source, or prepare the data set again"
            )
    if len(index) and index.damaged.all():
        raise DataError(
            f"none of the {len(index)} records can be used; the first: {index.describe(0)}: "
            f"{index.damage[0]}"
        )
