"""The pictures of one long video, in a folder or in a .tar archive: found by their numbers, read
one at a time.

Hundreds of segments are cut out of one such video, so what is in it is listed once a process and
kept as plain numbers: 12 bytes a picture of an archive, 4 of a folder.
"""

import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from aia_jax.video.frame_folder import FrameNames, detect

_KEPT = 512  # listings a process keeps
_BLOCK = 512  # bytes; everything in an archive begins at a multiple of it


@dataclass(frozen=True, eq=False)
class PictureStore:
    """The numbered pictures of a folder or an archive.

    Attributes:
        source: the folder or archive.
        pattern: of their names, as "frame_%010d.jpg".
        numbers: int32 [N], in their names, rising.
        names: the names themselves where `pattern` does not give them back, else empty.
        blocks: int32 [N]: where each picture begins in the archive, in blocks of 512 bytes; empty
            for a folder.
        lengths: int32 [N]: its bytes; empty for a folder.
    """

    source: Path
    pattern: str
    numbers: np.ndarray
    names: tuple[str, ...]
    blocks: np.ndarray
    lengths: np.ndarray

    def name(self, place: int) -> str:
        """Of the picture at `place`, from 0."""
        return self.names[place] if self.names else self.pattern % self.numbers[place]

    def read(self, places: range) -> Iterator[tuple[str, bytes]]:
        """Name and content of each of the pictures, in their order.

        Raises:
            OSError: if one cannot be read.
        """
        if not len(self.blocks):
            for place in places:
                yield self.name(place), (self.source / self.name(place)).read_bytes()
            return
        with self.source.open("rb") as archive:
            for place in places:
                archive.seek(int(self.blocks[place]) * _BLOCK)
                yield self.name(place), archive.read(int(self.lengths[place]))


@lru_cache(_KEPT)
def open_store(source: Path) -> PictureStore:
    """Lists the pictures of a folder or of a .tar archive (in it, folders do not matter).

    Raises:
        FrameNamesError: if the names do not say in which order the pictures follow.
        OSError: if the source cannot be read.
        tarfile.TarError: if the archive is damaged.
    """
    if source.is_dir():
        names = detect(path.name for path in source.iterdir())
        nothing = np.empty(0, np.int32)
        return PictureStore(
            source, names.pattern, _numbers(names), _irregular(names), nothing, nothing
        )
    places = dict(_members(source))
    names = detect(places)
    blocks, lengths = np.array([places[name] for name in names.files], np.int64).T
    return PictureStore(
        source,
        names.pattern,
        _numbers(names),
        _irregular(names),
        (blocks // _BLOCK).astype(np.int32),
        lengths.astype(np.int32),
    )


def _members(archive: Path) -> Iterator[tuple[str, tuple[int, int]]]:
    with tarfile.open(archive, "r:") as tar:
        end = 0
        for member in tar:
            tar.members = []  # it would keep a few hundred bytes of each
            end = member.offset_data + -(-member.size // _BLOCK) * _BLOCK
            if member.isfile():
                yield member.name.rpartition("/")[2], (member.offset_data, member.size)
    if end + _BLOCK > archive.stat().st_size:
        raise tarfile.ReadError("the archive is cut off: it lacks the mark of its end")


def _numbers(names: FrameNames) -> np.ndarray:
    return np.array([int(re.search(r"(\d+)\.\w+$", name)[1]) for name in names.files], np.int32)


def _irregular(names: FrameNames) -> tuple[str, ...]:
    """The names, if numbers alone do not give them back."""
    return (
        ()
        if all(
            names.pattern % number == name
            for number, name in zip(_numbers(names), names.files, strict=True)
        )
        else names.files
    )
