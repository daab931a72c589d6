"""Digests of a checkpoint's leaves and files, which tell whether it still holds what was saved.

A file's digest finds a byte that changed on the disk. A leaf's digest is taken of the array in
memory, before it is written and after it is restored, on any mesh. So it also finds numbers that
changed on the way to the disk or back.
"""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from aia_jax.files import atomic_file

META = "meta/metadata"  # the one file that is replaced in a finished checkpoint
SUMS = "SHA256SUMS"  # `sha256sum -c SHA256SUMS` reads it too
# Files without a digest: the list itself, and two that Orbax writes later and nothing here reads.
_WITHOUT_DIGEST = {SUMS, "_CHECKPOINT_METADATA", "commit_success.txt"}
_TEMPORARY = ".tmp"  # what a killed `replace_file` may leave; nothing reads it


class Damaged(Exception):
    """A checkpoint does not hold what was saved; the text names the file or leaf."""


def leaf_digests(leaves: Mapping[str, Any]) -> dict[str, str]:
    """Computes a digest of each array, which does not depend on sharding, devices or hosts.

    It has two sums modulo 2^32. The 32-bit word b_i at position i of the flattened array enters the
    first sum as b_i · (2i + 1), and the second as h(b_i xor h(i)) with an invertible hash h. Both
    are one-to-one in b_i, so a change within one word always changes both sums. Several changes can
    cancel each other in the first sum, and in the second with a probability of 2^-32.

    Every process sums over the shards that it holds, then the sums of all processes are added. So
    all processes must call this function.

    Args:
        leaves: name → jax or NumPy array of 1-, 2-, 4- or 8-byte elements.

    Returns:
        Name → 16 hex digits, 8 of each sum.
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
    """The two sums over one shard, uint32 [2].

    Args:
        data: the shard.
        index: where the shard lies in the whole array, a slice for each axis.
        shape: of the whole array.
    """
    itemsize = data.dtype.itemsize
    word = {1: np.uint8, 2: np.uint16}.get(itemsize, np.uint32)
    words = np.ascontiguousarray(data).reshape(-1).view(word).astype(np.uint32)
    # Position of every element in the flattened whole array, modulo 2^32, by broadcasting.
    positions = np.zeros((1,) * data.ndim, np.uint32)
    stride = 1
    for axis in reversed(range(data.ndim)):
        along = np.arange(*index[axis].indices(shape[axis]), dtype=np.uint32)
        along = along * np.uint32(stride % 2**32)
        positions = positions + along.reshape([-1 if a == axis else 1 for a in range(data.ndim)])
        stride *= shape[axis]
    positions = positions.reshape(-1)
    if itemsize == 8:  # two words an element
        positions = positions[:, None] * np.uint32(2) + np.arange(2, dtype=np.uint32)
        positions = positions.reshape(-1)
    return np.array(
        [
            (words * (2 * positions + 1)).sum(dtype=np.uint32),
            _hash(words ^ _hash(positions)).sum(dtype=np.uint32),
        ]
    )


def _hash(x: np.ndarray) -> np.ndarray:
    """A one-to-one hash of uint32: `lowbias32` of C. Wellons' hash-prospector."""
    x = (x ^ (x >> 16)) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * np.uint32(0x846CA68B)
    return x ^ (x >> 16)


def seal(folder: Path) -> None:
    """Writes `SHA256SUMS` of all files below `folder`; all are on the disk when it returns."""
    lines = []
    for name in _files(folder):
        with (folder / name).open("rb") as file:
            lines.append(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {name}\n")
            os.fsync(file.fileno())
    with (folder / SUMS).open("w") as file:
        file.writelines(lines)
        file.flush()
        os.fsync(file.fileno())


def replace_file(folder: Path, name: str, content: bytes) -> None:
    """Replaces one file of a sealed folder, so that the folder is whole at every moment.

    `SHA256SUMS` lists the old and the new digest while the file is renamed. A kill leaves the old
    content or the new one, and either is listed.

    Raises:
        Damaged: the file does not hold what was written before.
        OSError: the disk is full or read-only; the old content stays.
    """
    _check_file(folder, name, _read_sums(folder))
    sums = (folder / SUMS).read_text().splitlines(keepends=True)
    added = f"{hashlib.sha256(content).hexdigest()}  {name}\n"
    with atomic_file(folder / SUMS, "w") as file:
        file.writelines([*sums, added])
    with atomic_file(folder / name) as file:
        file.write(content)
    with atomic_file(folder / SUMS, "w") as file:
        file.writelines([*(line for line in sums if line[66:].rstrip("\n") != name), added])


def check_files(folder: Path) -> None:
    """Compares the digests of all files below `folder` with its `SHA256SUMS`.

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
    """Reads one file below `folder`, after its digest was compared with `SHA256SUMS`.

    Raises:
        Damaged: the file is missing, not listed or not as written.
    """
    _check_file(folder, name, _read_sums(folder))
    return (folder / name).read_bytes()


def _files(folder: Path) -> list[str]:
    """Paths, relative to `folder`, of the files below it that have a digest."""
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(
        name
        for name in names
        if name not in _WITHOUT_DIGEST and name not in (SUMS + _TEMPORARY, f"{META}{_TEMPORARY}")
    )


def _read_sums(folder: Path) -> dict[str, set[str]]:
    """File name → digest and two spaces, the first 66 characters of each of the name's lines.

    A name has two lines while `replace_file` is at work. A damaged line gives a name that no file
    has, or a digest that does not match.
    """
    try:
        lines = (folder / SUMS).read_bytes().decode(errors="replace").splitlines()
    except OSError as error:
        raise Damaged(
            f"file {folder / SUMS} cannot be read ({error.strerror}): the checkpoint was not "
            "written to its end"
        ) from error
    sums: dict[str, set[str]] = {}
    for line in lines:
        sums.setdefault(line[66:], set()).add(line[:66])
    return sums


def _check_file(folder: Path, name: str, sums: Mapping[str, set[str]]) -> None:
    try:
        with (folder / name).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise Damaged(f"file {folder / name} cannot be read ({error.strerror})") from error
    # Another process may have replaced the file since `sums` was read.
    if not any(f"{digest}  " in read.get(name, ()) for read in (sums, _read_sums(folder))):
        raise Damaged(
            f"file {folder / name} does not hold what was written (its SHA-256 is not the one in "
            f"{SUMS})"
        )
