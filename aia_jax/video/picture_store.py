"""The pictures of one long video, in a folder or in a .tar archive, found by their numbers.

Hundreds of segments are cut out of one such video, so each process lists its pictures once. The
list is arrays of numbers: 16 bytes a picture of an archive, 8 bytes a picture of a folder.
"""

import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from aia_jax.video.frame_folder import FrameNames, FrameNamesError, detect_frame_names
from aia_jax.video.picture import read_picture_file

_CACHED_STORES = 512  # in each process
_BLOCK = 512  # bytes; every file in an archive begins at a multiple of it


@dataclass(frozen=True, eq=False)
class PictureStore:
    """The numbered pictures of a folder or an archive.

    Attributes:
        source: the folder or archive.
        pattern: of their names, as "frame_%010d.jpg".
        numbers: int64 [N], ascending, taken from the names, which may be dates.
        names: all N names where `pattern % number` differs from one of them, else empty.
        blocks: int32 [N], the start of each picture in the archive in blocks of 512 bytes; empty
            for a folder.
        lengths: int32 [N], the bytes of each picture in the archive; empty for a folder.
        others: as in `FrameNames`.
    """

    source: Path
    pattern: str
    numbers: np.ndarray
    names: tuple[str, ...]
    blocks: np.ndarray
    lengths: np.ndarray
    others: str = ""

    @property
    def is_archive(self) -> bool:
        return len(self.blocks) > 0

    def name(self, position: int) -> str:
        """The name of a picture, given its position in the order of the numbers, from 0."""
        return self.names[position] if self.names else self.pattern % self.numbers[position]

    def read(self, positions: range) -> Iterator[tuple[str, bytes]]:
        """Yields the name and the content of the pictures at these positions.

        Raises:
            OSError: if the archive cannot be read.
            UnreadableVideo: if a picture of a folder cannot be read.
        """
        if not self.is_archive:
            for position in positions:
                name = self.name(position)
                yield name, read_picture_file(self.source / name)
            return
        with self.source.open("rb") as archive:
            for position in positions:
                archive.seek(int(self.blocks[position]) * _BLOCK)
                yield self.name(position), archive.read(int(self.lengths[position]))


@lru_cache(_CACHED_STORES)
def open_store(source: Path, frame_names: str = "") -> PictureStore:
    """Lists the pictures of a folder, or of a .tar archive with any folders inside.

    Args:
        source: the folder or archive.
        frame_names: the pictures to take, as in `detect_frame_names`.

    Raises:
        FrameNamesError: if the names do not tell the order of the pictures.
        OSError: if the source cannot be read.
        tarfile.TarError: if the archive is damaged.
    """
    if source.is_dir():
        names = detect_frame_names((path.name for path in source.iterdir()), frame_names)
        empty = np.empty(0, np.int32)
        return PictureStore(
            source,
            names.pattern,
            _numbers(names),
            _irregular_names(names),
            empty,
            empty,
            names.others,
        )
    members = dict(_members(source))
    names = detect_frame_names(members, frame_names)
    blocks, lengths = np.array([members[name] for name in names.files], np.int64).T
    if lengths.max() > np.iinfo(np.int32).max:
        raise FrameNamesError(f"{names.files[lengths.argmax()]!r} is too large for a picture")
    return PictureStore(
        source,
        names.pattern,
        _numbers(names),
        _irregular_names(names),
        (blocks // _BLOCK).astype(np.int32),
        lengths.astype(np.int32),
        names.others,
    )


def _members(archive: Path) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yields the name of each file in an archive with its (offset, length) in bytes."""
    with tarfile.open(archive, "r:") as tar:
        end = 0
        for member in tar:
            tar.members = []  # tarfile would keep a few hundred bytes of each
            end = member.offset_data + -(-member.size // _BLOCK) * _BLOCK
            if member.isfile():
                yield member.name.rpartition("/")[2], (member.offset_data, member.size)
    if end + _BLOCK > archive.stat().st_size:
        raise tarfile.ReadError("the archive is cut off: it lacks the mark of its end")


def _numbers(names: FrameNames) -> np.ndarray:
    numbers = [int(re.search(r"(\d+)\.\w+$", name)[1]) for name in names.files]
    if numbers[-1] > np.iinfo(np.int64).max - 1:
        raise FrameNamesError(f"the frame number of {names.files[-1]!r} is too large")
    return np.array(numbers, np.int64)


def _irregular_names(names: FrameNames) -> tuple[str, ...]:
    """All names if the pattern does not reproduce one of them from its number, else none."""
    pairs = zip(_numbers(names), names.files, strict=True)
    return () if all(names.pattern % number == name for number, name in pairs) else names.files
