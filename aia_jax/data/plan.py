"""Which video is in which row of which batch: a function of seed, step and row alone."""

import numpy as np

from aia_jax.data.class_balance import ClassBalance
from aia_jax.data.random_streams import generator, permutation
from aia_jax.errors import UserError
from aia_jax.shards.reader import ShardReader

# The references drop shorter training videos: the AIA authors', and the H2CN authors', who take
# segments of several frames.
MIN_TRAIN_FRAMES = 3
MIN_SEGMENTED_FRAMES = 8


class BatchPlan:
    """All global batches of a training run, in order; every host and worker holds the same plan.

    An epoch is a new permutation of the records, split into whole batches; the records left over at
    its end are not used. So the position of a run is one integer, the step. With `balance` small
    classes come more often (`class_balance`); an epoch stays as long.

    Attributes:
        record_ids: int64 [N], the records that are used.
        batch_size: rows of a global batch (B).
        seed: of permutations and rows.
        balance: draws small classes more often; None: every video comes once.
    """

    def __init__(
        self,
        records: int | np.ndarray,
        batch_size: int,
        seed: int,
        *,
        labels: np.ndarray | None = None,
        balance: float = 0.0,
    ):
        """Makes a plan.

        Args:
            records: ids of the records to use, or their number for all from 0.
            batch_size: rows of a global batch.
            seed: a whole number, at least 0.
            labels: int64, of all records of the split by id; for `balance` only.
            balance: classes are drawn in proportion to videos^(1 − balance), 0 to 1.

        Raises:
            UserError: if there are fewer records than a batch has rows, or a number is out of
                range.
        """
        ids = np.arange(records) if isinstance(records, int) else np.asarray(records)
        self.record_ids = ids.astype(np.int64)
        self.batch_size = batch_size
        self.seed = seed
        if batch_size < 1:
            raise UserError(f"train.batch_size={batch_size}: a batch has at least 1 clip")
        if seed < 0:
            raise UserError(f"seed={seed}: it must be 0 or more")
        if len(ids) < batch_size:
            raise UserError(
                f"{len(ids)} usable videos make no batch of {batch_size}; set train.batch_size to "
                f"{len(ids)} or less"
            )
        self.balance = None
        if balance and (labels[self.record_ids] >= 0).any():
            self.balance = ClassBalance(self.record_ids, labels[self.record_ids], balance, seed)

    @property
    def num_records(self) -> int:
        """N, the number of records that are used."""
        return len(self.record_ids)

    @property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch, N // B."""
        return self.num_records // self.batch_size

    def records(self, step: int) -> np.ndarray:
        """int64 [B]: the record of each row of a global batch."""
        epoch, batch = divmod(step, self.steps_per_epoch)
        rows = slice(batch * self.batch_size, (batch + 1) * self.batch_size)
        if self.balance:
            return self.balance.epoch(epoch)[rows]
        return self.record_ids[permutation(self.num_records, self.seed, epoch)[rows]]

    def rng(self, step: int, row: int) -> np.random.Generator:
        """The generator of a row's frames, crop and flip, and of a damaged record's replacement."""
        return generator(self.seed, step * self.batch_size + row)

    def draw_record(self, rng: np.random.Generator) -> int:
        """Draws another record for a row whose own record is damaged."""
        if self.balance:
            return self.balance.draw_record(rng)
        return int(self.record_ids[rng.integers(self.num_records)])


def min_train_frames(segment_frames: int) -> int:
    """The frames that a training video must have, for segments of that many frames."""
    return MIN_TRAIN_FRAMES if segment_frames == 1 else max(MIN_SEGMENTED_FRAMES, segment_frames)


def training_records(reader: ShardReader, segment_frames: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Separates the videos that are too short to train on from the others.

    A record that the index knows to be damaged stays among the others, as one whose damage is found
    later does: its row takes another record, and it is reported.

    Args:
        reader: of the split.
        segment_frames: consecutive frames of a segment; `min_train_frames` counts.

    Returns:
        The ids of the records to use and of those to drop, int64 each.
    """
    few = reader.index.num_frames < min_train_frames(segment_frames)
    short = few & ~reader.index.damaged
    return np.flatnonzero(~short), np.flatnonzero(short)
