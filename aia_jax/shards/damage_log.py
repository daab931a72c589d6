"""The list of the damaged records that a run met, and the limit at which the run stops."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from aia_jax.errors import DataError
from aia_jax.shards.frames import find_damage
from aia_jax.shards.reader import ShardReader

FILE_NAME = "bad_records.txt"

_HEADER = "# shard\trecord in it\tvideo\twhat is wrong"
_READABLE_NOW = "it could be read when it was looked at again"


class DamageLog:
    """Lists every damaged record of a split once, in a file to which restarts of the run append.

    Several splits may use one file; each log counts its own records. Hosts need a file each.

    Attributes:
        count: damaged records of this split so far, those of the run before a restart included.
    """

    def __init__(self, path: str | Path, reader: ShardReader, max_fraction: float):
        """Opens a log.

        Args:
            path: the file, usually `bad_records.txt` in the run's folder; written when the first
                record is added.
            reader: of the split.
            max_fraction: the fraction of the split's records that may be damaged, 0 to 1.
        """
        self.path, self._reader, self._max_fraction = Path(path), reader, max_fraction
        self._shards = {shard.name for shard in reader.index.shards}
        self._known: set[tuple[str, int]] = set()
        if self.path.exists():
            self._known.update(_read(self.path, self._shards))

    @property
    def count(self) -> int:
        return len(self._known)

    def add(self, records: np.ndarray | Sequence[int]) -> int:
        """Adds damaged records of the split.

        Args:
            records: their ids in any shape, as a batch's "damaged"; negative numbers are padding.

        Returns:
            How many of them are new.

        Raises:
            DataError: if more records are damaged than `max_fraction` allows.
        """
        records = [record for record in np.unique(records).tolist() if record >= 0]
        new = {
            record: position
            for record in records
            if (position := self._reader.index.shard_and_number(record)) not in self._known
        }
        if new:
            self._append([_line(self._reader, record) for record in new])
            self._known.update(new.values())
        # The addition makes 0.29 of 100 records 29, in spite of rounding.
        allowed = math.floor(self._max_fraction * len(self._reader) + 1e-9)
        if records and self.count > allowed:
            raise DataError(
                f"too many damaged records: {100 * self._max_fraction:g}% of {len(self._reader)} = "
                f"{allowed} allowed, found {self.count}; see {self.path}; prepare the data again "
                "and delete that file, or raise data.damaged_share if you mean it"
            )
        return len(new)

    def _append(self, lines: list[str]) -> None:
        content = self.path.read_bytes() if self.path.exists() else b""
        start = "" if content else _HEADER + "\n"
        if content and not content.endswith(b"\n"):  # a run was killed while it wrote a line
            start = "\n"
        with self.path.open("a", encoding="utf-8") as file:
            file.write(start + "".join(f"{line}\n" for line in lines))


def _line(reader: ShardReader, record: int) -> str:
    shard, number = reader.index.shard_and_number(record)
    texts = reader.index.video_id(record), find_damage(reader, record) or _READABLE_NOW
    return "\t".join([shard, str(number), *(" ".join(text.split()) for text in texts)])


def _read(path: Path, shards: set[str]) -> Iterator[tuple[str, int]]:
    """Yields (shard, number in it) of the listed records that lie in `shards`."""
    for line in path.read_text(encoding="utf-8").splitlines():
        shard, _, rest = line.partition("\t")
        number, tab, _ = rest.partition("\t")
        if shard in shards and tab and number.isdecimal():
            yield shard, int(number)
