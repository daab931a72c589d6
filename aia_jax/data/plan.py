"""Which video is in which row of which batch: a function of seed, step and row alone."""

from functools import lru_cache

import numpy as np

from aia_jax.errors import UserError
from aia_jax.shards.reader import ShardReader

# The references drop shorter training videos: the AIA authors', and the H2CN authors', who take
# segments of several frames.
MIN_TRAIN_FRAMES = 3
MIN_SEGMENTED_FRAMES = 8

_EPOCH_STREAM = 1 << 63  # + epoch: the random streams of permutations; no row has such a number


class BatchPlan:
    """All global batches of a training run, in order; every host and worker holds the same plan.

    An epoch is a new permutation of the records, split into whole batches; the records left over at
    its end are not used. So the position of a run is one integer, the step.

    Attributes:
        record_ids: int64 [N], the records that are used.
        batch_size: rows of a global batch (B).
        seed: of permutations and rows.
    """

    def __init__(self, records: int | np.ndarray, batch_size: int, seed: int):
        """Makes a plan.

        Args:
            records: ids of the records to use, or their number for all from 0.
            batch_size: rows of a global batch.
            seed: a whole number, at least 0.

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
        order = _permutation(self.num_records, self.seed, epoch)
        return self.record_ids[order[batch * self.batch_size : (batch + 1) * self.batch_size]]

    def rng(self, step: int, row: int) -> np.random.Generator:
        """The generator of a row's frames, crop and flip, and of a damaged record's replacement."""
        return _generator(self.seed, step * self.batch_size + row)

    def draw_record(self, rng: np.random.Generator) -> int:
        """Draws another record for a row whose own record is damaged."""
        return int(self.record_ids[rng.integers(self.num_records)])


@lru_cache(maxsize=4)  # batches are made ahead, so two epochs may be in use at once
def _permutation(count: int, seed: int, epoch: int) -> np.ndarray:
    return _generator(seed, _EPOCH_STREAM + epoch).permutation(count)


def _generator(seed: int, stream: int) -> np.random.Generator:
    """A generator whose numbers depend on `seed` and `stream` alone.

    Philox is keyed by both, so any stream of any step is reached without drawing those before it.
    """
    return np.random.Generator(np.random.Philox(key=seed % 2**64 + (stream << 64)))


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
