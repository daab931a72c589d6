"""Writes and scans TFRecord files (tensorflow/core/lib/io/record_writer.h).

A record is a length (uint64), the masked CRC32C of the length, the data, and the masked CRC32C of
the data, all little-endian. Records follow one another without a gap.
"""

import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import google_crc32c

from aia_jax.errors import DataError
from aia_jax.files import atomic_file

HEADER_BYTES = 12
FOOTER_BYTES = 4


def crc32c(data: bytes) -> int:
    """The CRC32C (Castagnoli) of `data`."""
    return google_crc32c.value(data)


def masked_crc32c(data: bytes) -> int:
    """CRC32C, rotated and offset, as TFRecord stores it.

    A CRC over data that contains CRCs would be weak; the mask prevents that.
    """
    return _mask(google_crc32c.value(data))


def _mask(crc: int) -> int:
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


class RecordWriter:
    """Writes one TFRecord file; it appears when the `with` block ends without an exception."""

    def __init__(self, path: str | Path, *, concurrent: bool = False):
        """Prepares to write `path`; `concurrent` as in `atomic_file`."""
        self._atomic = atomic_file(path, concurrent=concurrent)
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
            The offset in the file at which the record's data begins, the index's `record_offset`.
        """
        return self.write_pieces((record,), len(record))

    def write_pieces(self, pieces: Iterable[bytes], length: int) -> int:
        """Appends a record that is not in memory as a whole.

        Args:
            pieces: of the record, one after another.
            length: of all pieces together, in bytes.

        Returns:
            As `write`.

        Raises:
            ValueError: if the pieces have another length.
        """
        head = struct.pack("<Q", length)
        self._file.write(head + struct.pack("<I", masked_crc32c(head)))
        crc = written = 0
        for piece in pieces:
            self._file.write(piece)
            crc = google_crc32c.extend(crc, piece)
            written += len(piece)
        if written != length:
            raise ValueError(f"a record of {length} bytes was given {written}")
        self._file.write(struct.pack("<I", _mask(crc)))
        start = self._offset + HEADER_BYTES
        self._offset = start + length + FOOTER_BYTES
        return start


class Record(NamedTuple):
    """One record of a scan.

    Attributes:
        offset: where its data begins in the file.
        data: its content.
        intact: whether the data match the checksum that is stored with them.
    """

    offset: int
    data: bytes
    intact: bool


def scan_records(path: str | Path) -> Iterator[Record]:
    """Reads a TFRecord file from its first byte to its last.

    A record whose data does not match its checksum is yielded as not intact: the next one can still
    be found.

    Raises:
        DataError: if the file ends inside a record, or a length does not match its checksum, so
            that the next record cannot be found; names the file, the byte and the number of records
            before it.
    """
    path = Path(path)
    size = path.stat().st_size
    offset = number = 0
    with path.open("rb") as file:
        while offset < size:
            where = f"{path}: record {number} at byte {offset}"
            remedy = (
                f"{number} whole records come before it; copy the file again from its source, or "
                "prepare the data set again"
            )
            header = file.read(HEADER_BYTES)
            if len(header) < HEADER_BYTES:
                raise DataError(f"{where} is cut short inside its length; {remedy}")
            length, length_crc = struct.unpack("<QI", header)
            if masked_crc32c(header[:8]) != length_crc:
                gzip_note = ""
                if header.startswith(b"\x1f\x8b"):
                    gzip_note = " (the file looks gzip-compressed: unpack it first)"
                raise DataError(
                    f"{where} has a length that does not match its checksum{gzip_note}; {remedy}"
                )
            remaining = size - offset - HEADER_BYTES
            if length + FOOTER_BYTES > remaining:
                raise DataError(
                    f"{where} is cut short: it needs {length + FOOTER_BYTES} bytes, the file has "
                    f"{remaining} more; {remedy}"
                )
            data = file.read(length)
            (data_crc,) = struct.unpack("<I", file.read(FOOTER_BYTES))
            yield Record(offset + HEADER_BYTES, data, masked_crc32c(data) == data_crc)
            offset += HEADER_BYTES + length + FOOTER_BYTES
            number += 1
