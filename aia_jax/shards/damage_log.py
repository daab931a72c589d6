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
# Damaged records that a small split may have, up to a tenth of it: one of 200 should stop no run.
_FEW, _FEW_SHARE = 3, 0.1


def allowed_damaged(records: int, max_fraction: float) -> int:
    """How many of a split's records may be damaged.

    It is `max_fraction` of them, rounded down, or a few if the split is small; none if
    `max_fraction` is 0.
    """
    if not max_fraction:
        return 0
    # The addition makes 0.29 of 100 records 29, in spite of rounding.
    share, few = (math.floor(part * records + 1e-9) for part in (max_fraction, _FEW_SHARE))
    return max(share, min(_FEW, few))


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
            max_fraction: the fraction of the split's records that may be damaged, 0 to 1; see
                `allowed_damaged`.
        """
        self.path, self._reader, self._max_fraction = Path(path), reader, max_fraction
        self._shards = {shard.name for shard in reader.index.shards}
        self._known: set[tuple[str, int]] = set()
        if self.path.exists():
            self._known.update(_read(self.path, self._shards))

    @property
    def count(self) -> int:
        return len(self._known)

    def check_known(self) -> None:
        """Adds what is known to be damaged before any record is used: by the index, or by the file.

        Listed records are read again if there are too many of them. The data may have been mended
        since.

        Raises:
            DataError: as `add`.
        """
        known = np.flatnonzero(self._reader.index.damaged).tolist()
        if self.count > allowed_damaged(len(self._reader), self._max_fraction):
            numbers = {shard.name: k for k, shard in enumerate(self._reader.index.shards)}
            listed = (
                int(self._reader.index.first_record[numbers[shard]]) + number
                for shard, number in sorted(self._known)
            )
            known += [record for record in listed if find_damage(self._reader, record)]
        self.add(known)

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
        allowed = allowed_damaged(len(self._reader), self._max_fraction)
        if records and self.count > allowed:
            raise DataError(
                f"too many damaged records: {allowed} of {len(self._reader)} allowed "
                f"(data.damaged_share={self._max_fraction:g}), found {self.count}; see "
                f"{self.path}; prepare the data again and delete that file, or raise "
                "data.damaged_share if you mean it"
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
