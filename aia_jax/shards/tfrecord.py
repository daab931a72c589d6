"""TFRecord files: records one after the other, each between checksums
(tensorflow/core/lib/io/record_writer.h).

A record is a length (uint64), the masked CRC32C of the length, the data, the masked CRC32C of the
data, all little-endian.
"""

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

import google_crc32c

from aia_jax.errors import DataError

HEADER_BYTES = 12
FOOTER_BYTES = 4


def crc32c(data: bytes) -> int:
    """The CRC32C (Castagnoli) of `data`."""
    return google_crc32c.value(data)


def masked_crc32c(data: bytes) -> int:
    """CRC32C, rotated and offset: TFRecord stores this so that the CRC of data that holds CRCs
    stays a good one.
    """
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


@contextmanager
def atomic_file(path: Path, temporary: str | None = None) -> Iterator[BinaryIO]:
    """A file that is there whole or not at all, whatever ends the process: written under another
    name, flushed, renamed.

    Args:
        path: where the file appears when the block ends; after an exception nothing appears.
        temporary: its name until then, in the same folder; `<name>.tmp` unless told. A left-over of
            that name is overwritten.
    """
    path = Path(path)
    temporary_path = path.with_name(temporary or path.name + ".tmp")
    try:
        with temporary_path.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary_path.replace(path)
    except BaseException:
        temporary_path.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Brings the names in a folder to disk: a rename is safe only then."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class RecordWriter:
    """Writes one TFRecord file, which appears under its name when the `with` block ends without an
    exception.
    """

    def __init__(self, path: str | Path, temporary: str | None = None):
        self._atomic = atomic_file(Path(path), temporary)
        self._offset = 0

    def __enter__(self) -> "RecordWriter":
        self._file = self._atomic.__enter__()
        return self

    def __exit__(self, *exception) -> bool | None:
        return self._atomic.__exit__(*exception)

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._offset

    def write(self, record: bytes) -> int:
        """Appends a record.

        Returns:
            The offset in the file at which the record's data begins (what the index calls
            `record_offset`).
        """
        length = struct.pack("<Q", len(record))
        self._file.write(length + struct.pack("<I", masked_crc32c(length)))
        self._file.write(record)
        self._file.write(struct.pack("<I", masked_crc32c(record)))
        start = self._offset + HEADER_BYTES
        self._offset = start + len(record) + FOOTER_BYTES
        return start


class Record(NamedTuple):
    """One record of a scan: where its data begins, the data, and whether its checksum agrees."""

    offset: int
    data: bytes
    intact: bool


def scan_records(path: str | Path) -> Iterator[Record]:
    """Reads a TFRecord file from its first byte to its last.

    A record whose data does not match its checksum is yielded as not intact: the next one can still
    be found.

    Raises:
        DataError: if the file ends inside a record, or a length does not match its checksum so that
            nothing after it can be found; names file, byte and the records before it.
    """
    path = Path(path)
    size = path.stat().st_size
    offset = number = 0
    with path.open("rb") as file:
        while offset < size:
            here = f"{path}: record {number} at byte {offset}"
            remedy = f"{number} whole records come before it; copy the file again from its source, or prepare the data set again"
            header = file.read(HEADER_BYTES)
            if len(header) < HEADER_BYTES:
                raise DataError(f"{here} is cut short inside its length; {remedy}")
            length, length_crc = struct.unpack("<QI", header)
            if masked_crc32c(header[:8]) != length_crc:
                packed = (
                    " (the file looks gzip-compressed: unpack it first)"
                    if header.startswith(b"\x1f\x8b")
                    else ""
                )
                raise DataError(
                    f"{here} has a length that does not match its checksum{packed}; {remedy}"
                )
            left = size - offset - HEADER_BYTES
            if length + FOOTER_BYTES > left:
                raise DataError(
                    f"{here} is cut short: it needs {length + FOOTER_BYTES} bytes, the file has "
                    f"{left} more; {remedy}"
                )
            data = file.read(length)
            (data_crc,) = struct.unpack("<I", file.read(FOOTER_BYTES))
            yield Record(offset + HEADER_BYTES, data, masked_crc32c(data) == data_crc)
            offset += HEADER_BYTES + length + FOOTER_BYTES
            number += 1
