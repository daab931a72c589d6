"""NumPy's .npz files as arrays, if their bytes are whole and nothing in them would run."""

import math
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
from numpy.lib import format as npy

from aia_jax.errors import UserError, shorten
from aia_jax.weights.archive import DAMAGED, check_records, read_bytes


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Reads the arrays of an .npz file, and compares each with the archive's checksum (CRC-32).

    No pickled object is loaded, so nothing that a file contains is run.

    Returns:
        Name, without the ending .npy, → array; NumPy's two-byte void, as which it writes bfloat16,
        as bfloat16.

    Raises:
        UserError: the file is damaged, holds something else than arrays of numbers, or would need
            more than 16 GiB.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
            _check_names(path, records)
            check_records(path, records)
            return {
                record.filename.removesuffix(".npy"): _read_array(path, archive, record)
                for record in records
            }
    except (MemoryError, UserError):
        raise
    except Exception as error:  # zipfile raises many kinds for a directory that makes no sense
        reason = shorten(" ".join(str(error).split()) or type(error).__name__)
        raise UserError(f"{path} cannot be read as .npz ({reason}): {DAMAGED}") from error


def _check_names(path: Path, records: list[zipfile.ZipInfo]) -> None:
    """Checks that every record of an archive is an array."""
    if not records:
        raise UserError(f"{path} holds no arrays")
    for record in records:
        if not record.filename.endswith(".npy"):
            raise UserError(
                f"{path} holds {shorten(record.filename)}, which is no array of NumPy's (.npy); a "
                "file of torch.save is to be named .pth"
            )


def _read_array(path: Path, archive: zipfile.ZipFile, record: zipfile.ZipInfo) -> np.ndarray:
    """One array; zipfile raises an error at its end if the checksum is another one."""
    name = shorten(record.filename.removesuffix(".npy"))
    with archive.open(record) as file:
        shape, is_fortran, dtype = _read_header(file)
        if dtype.kind == "V" and dtype.itemsize == 2 and dtype.names is None:
            dtype = np.dtype(ml_dtypes.bfloat16)
        elif dtype.kind not in "fiub":
            raise UserError(
                f"{path}: {name} holds {_kind_text(dtype)}; only arrays of numbers are read"
            )
        size = math.prod(shape) * dtype.itemsize
        if size != record.file_size - file.tell():
            raise ValueError(
                f"{name} {list(shape)} of {dtype} has {record.file_size - file.tell()} bytes, not "
                f"{size}"
            )
        content = read_bytes(file, size)
    return content.view(dtype).reshape(shape, order="F" if is_fortran else "C")


def _read_header(file: zipfile.ZipExtFile) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether it is in Fortran's order, and type of an array from its .npy header."""
    version = npy.read_magic(file)
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"version {version} of the .npy format")
    return readers[version](file)


def _kind_text(dtype: np.dtype) -> str:
    if dtype.hasobject:
        return "pickled objects, and loading them can run a stranger's code"
    return f"values of type {dtype}"
