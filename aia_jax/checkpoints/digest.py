"""Digests that tell whether what a checkpoint gives back is what was put in: one for every leaf and
one for every file.

A file's digest finds a byte that changed on disk. A leaf's digest is taken of the array in memory,
before it is written and after it is restored on whatever mesh, so it also finds what goes wrong on
the way to the disk and back.
"""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

SUMS = "SHA256SUMS"  # `sha256sum -c SHA256SUMS` reads it too
# What Orbax writes after a step is sealed. Nothing here reads either.
_UNSEALED = {SUMS, "_CHECKPOINT_METADATA", "commit_success.txt"}


class Damaged(Exception):
    """A checkpoint is not what was written; the text names the file or leaf."""


def leaf_digests(leaves: Mapping[str, Any]) -> dict[str, str]:
    """Digests of arrays: 16 hex digits each, the same for every sharding, number of devices and
    number of hosts.

    A 32-bit word b_i of the array, i its place in the whole of it, enters two sums modulo 2^32: as
    b_i · (2i + 1), and as h(b_i xor h(i)) with an invertible hash h. Both are one-to-one in b_i, so
    a change within one word always shows in both; several changes can cancel in the first, and in
    the second by a chance of 2^-32. Every process takes the shards it holds and the sums are added
    up over processes, which must all call.

    Args:
        leaves: name → jax or NumPy array of 1-, 2-, 4- or 8-byte elements.
    """
    sums = np.zeros((len(leaves), 2), np.uint32)
    for row, leaf in zip(sums, leaves.values(), strict=True):
        if isinstance(leaf, jax.Array):
            shards = [
                (shard.index, shard.data)
                for shard in leaf.addressable_shards
                if shard.replica_id == 0
            ]
        else:
            shards = [((slice(None),) * np.ndim(leaf), leaf)]
        for index, data in shards:
            row += _shard_sums(np.asarray(data), index, np.shape(leaf))
    if jax.process_count() > 1 and any(isinstance(leaf, jax.Array) for leaf in leaves.values()):
        sums = np.asarray(multihost_utils.process_allgather(sums)).sum(0, dtype=np.uint32)
    return {
        name: f"{first:08x}{second:08x}"
        for name, (first, second) in zip(leaves, sums.tolist(), strict=True)
    }


def _shard_sums(data: np.ndarray, index: tuple[slice, ...], shape: tuple[int, ...]) -> np.ndarray:
    """The two sums of a shard, uint32 [2], that `index` cuts out of an array of `shape`."""
    size = data.dtype.itemsize
    bits = (
        np.ascontiguousarray(data)
        .reshape(-1)
        .view({1: np.uint8, 2: np.uint16}.get(size, np.uint32))
        .astype(np.uint32)
    )
    place = np.zeros((1,) * data.ndim, np.uint32)
    stride = 1
    for axis in reversed(range(data.ndim)):
        along = np.arange(*index[axis].indices(shape[axis]), dtype=np.uint32) * np.uint32(
            stride % 2**32
        )
        place = place + along.reshape([-1 if a == axis else 1 for a in range(data.ndim)])
        stride *= shape[axis]
    place = place.reshape(-1)
    if size == 8:  # two words an element
        place = (place[:, None] * np.uint32(2) + np.arange(2, dtype=np.uint32)).reshape(-1)
    return np.array(
        [
            (bits * (2 * place + 1)).sum(dtype=np.uint32),
            _hash(bits ^ _hash(place)).sum(dtype=np.uint32),
        ]
    )


def _hash(x: np.ndarray) -> np.ndarray:
    """A one-to-one hash of uint32: `lowbias32` of C. Wellons' hash-prospector."""
    x = (x ^ (x >> 16)) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * np.uint32(0x846CA68B)
    return x ^ (x >> 16)


def seal(folder: Path) -> None:
    """Writes `SHA256SUMS` over all files below `folder`, and has them all on the disk before it
    returns.
    """
    lines = []
    for name in _files(folder):
        with (folder / name).open("rb") as file:
            lines.append(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {name}\n")
            os.fsync(file.fileno())
    with (folder / SUMS).open("w") as file:
        file.writelines(lines)
        file.flush()
        os.fsync(file.fileno())


def check_files(folder: Path) -> None:
    """Compares all files below `folder` with its `SHA256SUMS`.

    Raises:
        Damaged: names the first file that is missing, not listed or not as written.
    """
    sums = _read_sums(folder)
    found = _files(folder)
    for name in sorted(sums.keys() ^ set(found)):
        raise Damaged(
            f"file {folder / name} is {'missing' if name in sums else f'not listed in {SUMS}'}"
        )
    for name in found:
        _check_file(folder, name, sums)


def read_checked(folder: Path, name: str) -> bytes:
    """The bytes of one file below `folder`, compared with its `SHA256SUMS`.

    Raises:
        Damaged: the file is missing, not listed or not as written.
    """
    _check_file(folder, name, _read_sums(folder))
    return (folder / name).read_bytes()


def _files(folder: Path) -> list[str]:
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in names if name not in _UNSEALED)


def _read_sums(folder: Path) -> dict[str, str]:
    """File name → hex digest. A damaged line gives a name that no file has, or a digest that none
    matches.
    """
    try:
        lines = (folder / SUMS).read_bytes().decode(errors="replace").splitlines()
    except OSError as error:
        raise Damaged(
            f"file {folder / SUMS} cannot be read ({error.strerror}): the checkpoint was not "
            "written to its end"
        ) from error
    return {line[66:]: line[:66] for line in lines}


def _check_file(folder: Path, name: str, sums: Mapping[str, str]) -> None:
    try:
        with (folder / name).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise Damaged(f"file {folder / name} cannot be read ({error.strerror})") from error
    if sums.get(name) != f"{digest}  ":
        raise Damaged(
            f"file {folder / name} does not hold what was written (its SHA-256 is not the one in "
            f"{SUMS})"
        )
