"""The labels of videos that may have several: all sets of a split in two columns."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from aia_jax.shards.index_builder import NO_LABEL


class LabelSets(NamedTuple):
    """The label sets of N records, one behind another.

    Attributes:
        start: int64 [N + 1]; the labels of record i are `values[start[i]:start[i + 1]]`.
        values: int64 [number of labels].
    """

    start: np.ndarray
    values: np.ndarray

    @classmethod
    def gather(cls, first: np.ndarray, several: Mapping[int, Sequence[int]]) -> "LabelSets":
        """Makes the columns.

        Args:
            first: int64 [N], the first label of each record; -1 where a record has none.
            several: by record, all labels of those that have more than one.
        """
        counts = (first != NO_LABEL).astype(np.int64)
        for record, labels in several.items():
            counts[record] = len(labels)
        start = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
        values = np.repeat(first.astype(np.int64), counts)
        for record, labels in several.items():
            values[start[record] : start[record + 1]] = labels
        return cls(start, values)

    def entries(self, records: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The labels of some records, one entry a label.

        Args:
            records: int64 [n].

        Returns:
            int64 each: the place in `records` that an entry belongs to, and its label.
        """
        starts, counts = self.start[records], self.start[records + 1] - self.start[records]
        rows = np.repeat(np.arange(len(records)), counts)
        before = np.cumsum(counts) - counts  # entries of the records before
        return rows, self.values[np.arange(len(rows)) + (starts - before)[rows]]
