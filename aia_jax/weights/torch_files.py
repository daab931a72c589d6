"""PyTorch's checkpoints as NumPy arrays, if their bytes are whole and nothing in them would run.

PyTorch itself is not needed. Only the arrays of the state dict that is asked for are read. What
lies beside it, such as an optimizer's state, takes no memory.
"""

import contextlib
import io
import mmap
import os
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from aia_jax.errors import UserError, shorten
from aia_jax.weights.about import StateDictFile, find_about
from aia_jax.weights.archive import DAMAGED, check_compression, check_records, read_bytes
from aia_jax.weights.pickled_data import ForeignName, PickleError, read_pickle
from aia_jax.weights.pickled_types import DATA
from aia_jax.weights.state_dicts import take_state_dict
from aia_jax.weights.torch_tensors import TORCH, Storage, Tensor, Unreadable, load_storage

_MAGIC = 0x1950A86A20F9469CFC6C  # the first value of PyTorch's format before version 1.6
_NAMES = DATA | TORCH
_LONGEST_PICKLE = 1 << 28  # bytes; a log of a million steps has 16 MB
_LEAST_COPIED = 1 << 26  # bytes of conjugate and negated views; above it the file's size counts

# Reads the bytes of a storage.
_Load = Callable[[Storage], np.ndarray]


def read_torch_file(path: Path, choice: str | None = None) -> StateDictFile:
    """Reads the state dict of a file of torch.save, of its zip format or of the older one.

    The older format has no checksums: damaged numbers cannot be told from others there.

    Args:
        path: of the file.
        choice: see `take_state_dict`.

    Returns:
        Its arrays; bfloat16 is that of ml_dtypes.

    Raises:
        UserError: the file is damaged, is no state dict, holds anything that could run code, or
            holds a tensor that NumPy has no type for.
    """
    with path.open("rb") as file:
        is_archive = file.read(4) == b"PK\x03\x04"  # as PyTorch tells the two formats apart
    with _named_errors(path), (_open_archive if is_archive else _open_older)(path) as opened:
        content, load, byte_order = opened
        taken = take_state_dict(path, content, choice)
        arrays = _read_arrays(path, taken.entries, load, byte_order)
    return StateDictFile(arrays, find_about(content), taken.notes)


@contextlib.contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    """Turns what is wrong with a file into an error that names it."""
    try:
        yield
    except UserError:
        raise
    except MemoryError as error:
        reason = " ".join(str(error).split())
        raise MemoryError(f"reading {path}" + (f": {reason}" if reason else "")) from error
    except ForeignName as error:
        name = error.args[0] if error.args[0].isprintable() else ascii(error.args[0])
        raise UserError(
            f"{path} is refused: it holds {shorten(name)}, and loading more than tensors can run a "
            "stranger's code; where the file is trusted, save its state dict alone: "
            "torch.save(model.state_dict(), FILE)"
        ) from error
    except PickleError as error:
        raise UserError(
            f"{path} cannot be read as a state dict of torch.save ({error}); is it complete?"
        ) from error
    except Exception as error:  # zipfile raises many kinds for a directory that makes no sense
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise UserError(
            f"{path} cannot be read as a state dict of torch.save "
            f"({shorten(reason or type(error).__name__)}): {DAMAGED}"
        ) from error


def _read_arrays(
    path: Path, entries: Mapping[str, Any], load: _Load, byte_order: str
) -> dict[str, np.ndarray]:
    """Key → array of the entries of a state dict; a storage is read once for all its tensors."""
    uses = Counter(entry.storage.key for entry in entries.values() if isinstance(entry, Tensor))
    contents: dict[str, np.ndarray] = {}  # of storages that another tensor needs again, by key
    left = _LEAST_COPIED + path.stat().st_size  # bytes of arrays that are computed
    arrays = {}
    for key, entry in entries.items():
        if not isinstance(entry, Tensor | Unreadable):
            arrays[key] = entry
            continue
        if entry.problem:
            raise UserError(
                f"{path}: {shorten(key)} holds {entry.problem}; save it as an ordinary tensor of "
                "float32, float16 or bfloat16"
            )
        storage = entry.storage
        try:
            content = contents[storage.key] if storage.key in contents else load(storage)
            arrays[key] = entry.as_array(content, byte_order)
            left -= arrays[key].nbytes if entry.changes else 0
            if left < 0:
                raise ValueError("conjugates of the same numbers again and again")
        except MemoryError:
            raise
        except Exception as error:
            if "CRC" in str(error):
                raise UserError(
                    f"{path}: the numbers of {shorten(key)} are not those that the archive's "
                    f"checksum (CRC-32) was taken of; {DAMAGED}"
                ) from error
            reason = shorten(" ".join(str(error).split()) or type(error).__name__)
            raise UserError(
                f"{path}: the numbers of {shorten(key)} are not there ({reason}): {DAMAGED}"
            ) from error
        uses[storage.key] -= 1
        contents[storage.key] = content
        if not uses[storage.key]:
            del contents[storage.key]
    return arrays


def _open_zip(path: Path) -> zipfile.ZipFile:
    """A zip archive whose end is there."""
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        size = path.stat().st_size
        raise zipfile.BadZipFile(
            f"it begins as an archive and has no end after {size:,} bytes, as a download that was "
            "broken off"
        ) from error


@contextlib.contextmanager
def _open_archive(path: Path) -> Iterator[tuple[Any, _Load, str]]:
    """The content of a file of the zip format, how its storages are read, and its byte order."""
    with _open_zip(path) as archive:
        records = archive.infolist()
        check_records(path, records)
        check_compression(path, records)
        # Under torch.serialization.set_crc32_options(False) all checksums are 0.
        if not any(record.CRC for record in records):
            for record in records:
                record.CRC = None
        pickles = [name for name in archive.namelist() if f"/{name}".endswith("/data.pkl")]
        if not pickles:
            raise zipfile.BadZipFile(
                f"it is an archive of {shorten(', '.join(archive.namelist()) or 'nothing')}"
            )
        prefix = min(pickles, key=len).removesuffix("data.pkl")
        names = {name.removeprefix(prefix) for name in archive.namelist()}
        if "constants.pkl" in names and any(name.startswith("code/") for name in names):
            raise UserError(
                f"{path} is a TorchScript program; save its state dict alone: "
                "torch.save(torch.jit.load(FILE).state_dict(), OTHER)"
            )

        def read(name: str, most: int, least: int = 0) -> np.ndarray:
            size = archive.getinfo(prefix + name).file_size
            if not least <= size <= most:
                raise zipfile.BadZipFile(f"{name} has {size:,} bytes, expected {most:,} at most")
            with archive.open(prefix + name) as file:
                return read_bytes(file, size)

        def load(storage: Storage) -> np.ndarray:
            size = (storage.start + storage.size) * storage.item_size
            return read(f"data/{storage.key}", size, size)

        order = bytes(read("byteorder", 16)).decode() if "byteorder" in names else "little"
        if order not in ("little", "big"):
            raise zipfile.BadZipFile(f"its byte order is {order!r}")
        pickle = io.BytesIO(read("data.pkl", _LONGEST_PICKLE))
        content = read_pickle(pickle, _NAMES, load_storage)
        yield content, load, order


@contextlib.contextmanager
def _open_older(path: Path) -> Iterator[tuple[Any, _Load, str]]:
    """Does what `_open_archive` does, for the format before PyTorch 1.6 and for plain pickles."""
    with (
        path.open("rb") as opened,
        mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as file,
    ):
        content = read_pickle(file, _NAMES)
        if content != _MAGIC:
            yield content, _no_storage, "little"
            return
        read_pickle(file, _NAMES)  # the version of the format
        system = read_pickle(file, _NAMES)
        is_little = not isinstance(system, dict) or system.get("little_endian", True)
        order = "little" if is_little else "big"
        storages: dict[str, Storage] = {}

        def load_persistent(identity: Any) -> Storage:
            storage = load_storage(identity)
            storages.setdefault(storage.key, storage)
            return storage

        content = read_pickle(file, _NAMES, load_persistent)
        places = {}  # key → first byte and size of a storage
        for key in read_pickle(file, _NAMES):
            count = file.read(8)
            if not isinstance(key, str) or key not in storages:
                name = shorten(key) if isinstance(key, str) else f"a {type(key).__name__}"
                raise PickleError(f"the storage {name} is of no tensor")
            size = int.from_bytes(count, order) * storages[key].item_size
            places[key] = (file.tell(), size)
            if len(count) < 8 or size > len(file) - file.tell():
                raise PickleError(f"it ends before the numbers of storage {shorten(key)} do")
            file.seek(size, os.SEEK_CUR)

        def load(storage: Storage) -> np.ndarray:
            place, size = places[storage.key]
            opened.seek(place)
            array = np.empty(size, np.uint8)
            if opened.readinto(memoryview(array)) != size:
                raise EOFError("the file ends before")
            return array

        yield content, load, order


def _no_storage(storage: Storage) -> np.ndarray:
    raise ValueError("a plain pickle holds none")
