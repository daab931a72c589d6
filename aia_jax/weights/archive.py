"""Zip archives of arrays, as NumPy and PyTorch write them: checked before and while they are read.

Nothing of a record is believed: neither its size nor its bytes, which are compared with the
archive's own checksum (CRC-32) as they are read.
"""

import zipfile
from pathlib import Path

import numpy as np

from aia_jax.errors import UserError

DAMAGED = "the file is damaged: download or copy it again"
_FOLDER = 0x10  # attribute of a zip entry; PyTorch reads nothing for it, and says nothing
_MOST_BYTES = 1 << 34  # 16 GiB; an archive of a few kB may unpack to any size
# What an archive of weights may unpack to, in bytes: numbers hardly shrink when they are packed.
_LEAST_UNPACKED, _UNPACKED_PER_BYTE = 1 << 26, 20
_BUFFER = 1 << 20  # bytes of a record that are in memory besides the array


def check_records(path: Path, records: list[zipfile.ZipInfo]) -> None:
    """Checks the names and sizes of an archive's records before anything is unpacked.

    Args:
        path: of the archive, for error messages.
        records: all of it.

    Raises:
        UserError: all records together would need more than 16 GiB.
        zipfile.BadZipFile: a record is there twice, or is marked as a folder and is none.
    """
    total = sum(record.file_size for record in records)
    if total > _MOST_BYTES:
        raise UserError(
            f"{path} would unpack to {total / 2**30:,.0f} GiB, and no network here has more than "
            f"{_MOST_BYTES >> 30}; is it damaged?"
        )
    names = set()
    for record in records:
        if record.filename in names:
            raise zipfile.BadZipFile(f"{record.filename} is there twice")
        names.add(record.filename)
        if record.external_attr & _FOLDER and not record.is_dir():
            raise zipfile.BadZipFile(f"{record.filename} is marked as a folder")


def check_compression(path: Path, records: list[zipfile.ZipInfo]) -> None:
    """Checks that a file's records do not unpack to far more than the file has bytes.

    torch.save stores records as they are. An archive that somebody packed again may be compressed.

    Args:
        path: of the archive.
        records: all of it.

    Raises:
        UserError: they would need more than 64 MiB and 20 bytes for each byte of the file.
    """
    size = path.stat().st_size
    total = sum(record.file_size for record in records)
    if total > _LEAST_UNPACKED + _UNPACKED_PER_BYTE * size:
        raise UserError(
            f"{path} is refused: its {size:,} bytes would unpack to {total:,}, and weights do not "
            "shrink so; where the file is trusted, load it with PyTorch and save it with torch.save"
        )


def read_bytes(file: zipfile.ZipExtFile, size: int) -> np.ndarray:
    """The rest of an open record, as uint8; no more than that and 1 MiB is in memory.

    Args:
        file: the record.
        size: bytes that must follow in it.

    Raises:
        zipfile.BadZipFile: the record's bytes are not those that its checksum was taken of.
        EOFError: there are fewer bytes.
    """
    content = np.empty(size, np.uint8)
    view = memoryview(content)
    place = 0
    while place < size:
        count = file.readinto(view[place : place + _BUFFER])
        if not count:
            raise EOFError(f"{file.name} ends after {place} of {size} bytes")
        place += count
    file.read(1)  # the checksum is compared at the end
    return content
