"""Balanced sampling: the videos of an epoch, in which small classes come more often.

Classes are drawn in proportion to n^(1 − balance), n their videos (Kang et al. 2020, "Decoupling
Representation and Classifier for Long-Tailed Recognition", Eq. 1, where q is 1 − balance). An epoch
has as many rows as the split has videos, so it is as long as ever. Nothing is drawn with
replacement: how often each class comes up to any epoch, and which of its videos these are, is
computed from seed and epoch.
"""

from functools import lru_cache

import numpy as np

from aia_jax.data.random_streams import generator, permutation, video_stream

_UNIT = 1 << 20  # a class of one video weighs as much; whole numbers are equal on every machine


class ClassBalance:
    """The videos of every epoch, by class. Sent to workers.

    Up to any epoch the rows of a class differ by less than one from its share of all rows, and two
    videos of a class by at most one in how often they came. Both count the rows that are left over
    at an epoch's end too.

    Attributes:
        rows: of an epoch.
    """

    def __init__(self, record_ids: np.ndarray, labels: np.ndarray, balance: float, seed: int):
        """Sorts the videos by class.

        Args:
            record_ids: int64 [N], the records that are used.
            labels: int64 [N], their classes; -1 for a damaged record, which is not drawn.
            balance: 0 leaves the classes as they are, 1 draws all alike.
            seed: a whole number, at least 0.
        """
        self.rows, self._seed = len(record_ids), seed
        known = np.flatnonzero(labels >= 0)
        self._labels, counts = np.unique(labels[known], return_counts=True)
        self._records = record_ids[known[np.argsort(labels[known], kind="stable")]]
        self._starts = np.concatenate([[0], np.cumsum(counts)])
        self._counts = counts.tolist()
        weights = [round(_UNIT * n ** (1 - balance)) for n in self._counts]
        self._ends = np.cumsum([0, *weights]).tolist()  # Python's numbers have no largest one

    def epoch(self, epoch: int) -> np.ndarray:
        """int64 [rows]: the record of each row of an epoch, in the epoch's order."""
        return _epoch(self, epoch)

    def describe(self) -> str:
        """How often an epoch shows a video of the smallest and of the largest class."""
        texts = []
        for adjective, count in (("smallest", min(self._counts)), ("largest", max(self._counts))):
            number = self._counts.index(count)
            share = (self._ends[number + 1] - self._ends[number]) / self._ends[-1]
            times = f"{self.rows * share / count:.3g}"
            videos = f"{count:,} video{'s' * (count != 1)}"
            texts.append(f"the {adjective} class ({videos}) {times} times")
        return f"an epoch shows a video of {' and one of '.join(texts)}"

    def draw_record(self, rng: np.random.Generator) -> int:
        """Draws a class, then one of its videos."""
        place = int(rng.integers(self._ends[-1]))
        number = int(np.searchsorted(self._ends, place, side="right")) - 1
        first, stop = self._starts[number : number + 2]
        return int(self._records[rng.integers(first, stop)])

    def _uses(self, epoch: int) -> np.ndarray:
        """int64 [classes]: how often each class came before an epoch.

        Rows up to the epoch are a line that the classes share: class k owns the part from its
        weights' beginning to their end, in whole rows. No class has fewer rows an epoch than 1
        before rounding, since n^(1 − balance) ≤ n. So no number falls from one epoch to the next.
        """
        rows = epoch * self.rows
        return np.diff([rows * end // self._ends[-1] for end in self._ends])

    def _make(self, epoch: int) -> np.ndarray:
        found = []
        before, after = self._uses(epoch).tolist(), self._uses(epoch + 1).tolist()
        for number, (use, stop) in enumerate(zip(before, after, strict=True)):
            records = self._records[self._starts[number] : self._starts[number + 1]]
            # A round shows every video of the class once, in an order of its own.
            while use < stop:
                turn, place = divmod(use, len(records))
                stream = video_stream(int(self._labels[number]), turn)
                order = generator(self._seed, stream).permutation(len(records))
                found.append(records[order[place : place + stop - use]])
                use += len(found[-1])
        return np.concatenate(found)[permutation(self.rows, self._seed, epoch)]


@lru_cache(maxsize=4)  # batches are made ahead, so two epochs may be in use at once
def _epoch(balance: ClassBalance, epoch: int) -> np.ndarray:
    return balance._make(epoch)
