"""Batches of clips from a prepared split, for training and for evaluation.

An element of the grain dataset is one host's whole block of one global batch, and its number is the
global step. So a restart, another number of workers or another number of hosts changes which
process makes a row, and never what is in it. No iterator state is saved.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from aia_jax.data.augment import TrainTransform
from aia_jax.data.plan import BatchPlan
from aia_jax.data.views import ONE_VIEW, Views
from aia_jax.data.workers import Batch, iterate_blocks
from aia_jax.errors import DataError, UserError
from aia_jax.frame_geometry import Resize
from aia_jax.shards.frames import read_pictures
from aia_jax.shards.reader import DamagedRecord, ShardReader

MAX_DAMAGED_IN_ROW = 8  # the run stops if so many records drawn for one row are all damaged

_NO_RECORD = -1


def train_batches(
    reader: ShardReader,
    plan: BatchPlan,
    transform: TrainTransform,
    *,
    start_step: int,
    label: str = "label",
    multi_hot: int = 0,
    host_index: int = 0,
    host_count: int = 1,
    workers: int = 0,
    threads: int = 2,
    prefetch: int = 2,
) -> Iterator[Batch]:
    """Yields this host's rows of the global batches from `start_step` on, without end.

    A row whose record is damaged takes another record, drawn from the row's own random numbers:
    every run makes the same choice.

    Args:
        reader: of the split; its `index.labels[label]` are the labels.
        plan: of the global batches.
        transform: draws frames, crop and flip of a video.
        start_step: the global step of the first batch.
        label: the label feature.
        multi_hot: the number of classes K, of data whose videos have sets of labels; 0: each video
            has one label.
        host_index: which contiguous block of every global batch is made here.
        host_count: how many hosts share a global batch.
        workers: processes that make batches; 0 makes them in this process.
        threads: of each of these processes, which make its rows.
        prefetch: finished batches that wait, for each process; 0 (without workers only) makes each
            batch when it is asked for.

    Yields:
        "clips" uint8 [b, T·S, size, size, 3], "labels" int32 [b], or with `multi_hot` uint8 [b, K],
        1 at each label of the video; "records" int64 [b] (those that
        the clips show) and "damaged" int64 [b, 8] (those that were drawn for a row before and are
        damaged; the rest -1), with b = batch_size / host_count. Close the iterator to end the
        worker processes.

    Raises:
        UserError: if hosts or workers do not fit; at once.
        DataError: if the split has no such label; at once. If a row meets 8 damaged records in
            succession; from the iterator.
    """
    _check_label(reader, label)
    row_maker = _TrainRows(reader, plan, transform, label, multi_hot)
    block = _host_block(plan.batch_size, host_index, host_count)
    return iterate_blocks(
        row_maker,
        block,
        range(start_step, sys.maxsize),
        workers=workers,
        threads=threads,
        prefetch=prefetch,
    )


def eval_batches(
    reader: ShardReader,
    batch_size: int,
    num_frames: int,
    size: int,
    views: Views = ONE_VIEW,
    *,
    resize: Resize = (240, 320),
    sampling: str = "reference",
    segment_frames: int = 1,
    records: np.ndarray | None = None,
    label: str = "label",
    multi_hot: int = 0,
    host_index: int = 0,
    host_count: int = 1,
    workers: int = 0,
    threads: int = 2,
    prefetch: int = 2,
) -> Iterator[Batch]:
    """Yields every video of a split exactly once over all hosts, in all its views.

    Each video is read once for all its views, and each of its frames is decoded once. Every host
    gets the same number of batches.

    Args:
        reader: of the split.
        batch_size: rows of a global batch.
        num_frames: segments of a clip (T).
        size: of the crop and the input, pixels.
        views: of each video.
        resize: the recipe's `data.resize`, in which crops are computed; None for the stored frames'
            own size. Frames stored at this size are cropped without resampling.
        sampling: by which rule the views take frames and crops, see `frame_indices` and
            `view_crops`.
        segment_frames: consecutive frames of a segment (S).
        records: int64 [n], the record of each row of the batches, one batch after another; -1 for a
            row without one. None: all records in their order.
        label, multi_hot, host_index, host_count, workers, threads, prefetch: as in
            `train_batches`.

    Yields:
        "clips" uint8 [b, T·S, size, size, 3], or [b, views, T·S, size, size, 3] if there are
        several views, the crops of a clip one after another; "labels" int32 [b], or with
        `multi_hot` uint8 [b, K]; "weights" float32 [b], 0 for rows without a record and for damaged
        records, else 1; "records" int64 [b], -1 for rows without one; "damaged" int64 [b, 1], the
        record if it is damaged, else -1. Rows of weight 0 are black, their label is 0 (multi-hot:
        they have none).

    Raises:
        UserError: if hosts, workers or batch size do not fit; at once.
        DataError: if the split has no such label; at once.
    """
    if batch_size < 1:
        raise UserError(f"eval.batch_size={batch_size}: a batch has at least 1 clip")
    _check_label(reader, label)
    if records is None:
        records = np.arange(len(reader))
    row_maker = _EvalRows(
        reader,
        records,
        batch_size,
        num_frames,
        size,
        views,
        resize,
        label,
        sampling,
        segment_frames,
        multi_hot,
    )
    block = _host_block(batch_size, host_index, host_count)
    return iterate_blocks(
        row_maker,
        block,
        range(-(-len(records) // batch_size)),
        workers=workers,
        threads=threads,
        prefetch=prefetch,
    )


@dataclass(frozen=True, eq=False)
class _TrainRows:
    """Makes the rows of training batches (a `workers.RowMaker`)."""

    reader: ShardReader
    plan: BatchPlan
    transform: TrainTransform
    label: str
    multi_hot: int

    @property
    def clip_shape(self) -> tuple[int, ...]:
        return self.transform.clip_shape

    def new_fields(self, count: int) -> Batch:
        return {
            "labels": _no_labels(count, self.multi_hot),
            "records": np.empty(count, np.int64),
            "damaged": np.full((count, MAX_DAMAGED_IN_ROW), _NO_RECORD, np.int64),
        }

    def fill_row(self, step: int, row: int, slot: int, clip: np.ndarray, fields: Batch) -> None:
        rng = self.plan.rng(step, row)
        record = int(self.plan.records(step)[row])
        for attempt in range(MAX_DAMAGED_IN_ROW):
            try:
                fields["labels"][slot] = self._fill_clip(record, rng, clip)
                fields["records"][slot] = record
                return
            except DamagedRecord as damage:
                fields["damaged"][slot, attempt] = record
                last_damage = damage
            record = self.plan.draw_record(rng)
        raise DataError(
            f"{MAX_DAMAGED_IN_ROW} damaged records in succession at step {step}, the last: "
            f"{last_damage}; check the disk and data.dir"
        )

    def _fill_clip(
        self, record: int, rng: np.random.Generator, clip: np.ndarray
    ) -> int | np.ndarray:
        indices = self.transform.draw_frames(_num_frames(self.reader, record), rng)
        pictures, inverse = _read_distinct(self.reader, record, indices)
        label = _label(self.reader, self.label, record, self.multi_hot)
        label = self.transform(pictures, label, rng, clip[: len(pictures)])
        _repeat_frames(clip, inverse)
        return label


@dataclass(frozen=True, eq=False)
class _EvalRows:
    """Makes the rows of evaluation batches (a `workers.RowMaker`)."""

    reader: ShardReader
    records: np.ndarray
    batch_size: int
    num_frames: int
    size: int
    views: Views
    resize: Resize
    label: str
    sampling: str
    segment_frames: int
    multi_hot: int

    @property
    def clip_shape(self) -> tuple[int, ...]:
        several = (len(self.views),) if len(self.views) > 1 else ()
        return *several, self.num_frames * self.segment_frames, self.size, self.size, 3

    def new_fields(self, count: int) -> Batch:
        return {
            "labels": _no_labels(count, self.multi_hot),
            "weights": np.zeros(count, np.float32),
            "records": np.full(count, _NO_RECORD, np.int64),
            "damaged": np.full((count, 1), _NO_RECORD, np.int64),
        }

    def fill_row(self, step: int, row: int, slot: int, clip: np.ndarray, fields: Batch) -> None:
        number = step * self.batch_size + row
        record = int(self.records[number]) if number < len(self.records) else _NO_RECORD
        if record == _NO_RECORD:
            clip[:] = 0
            return
        fields["records"][slot] = record
        try:
            self._fill_clip(record, clip)
        except DamagedRecord:
            clip[:] = 0
            fields["damaged"][slot] = record
            return
        fields["labels"][slot] = _label(self.reader, self.label, record, self.multi_hot)
        fields["weights"][slot] = 1

    def _fill_clip(self, record: int, clip: np.ndarray) -> None:
        count = _num_frames(self.reader, record)
        frames = self.views.frames(count, self.num_frames, self.sampling, self.segment_frames)
        pictures, inverse = _read_distinct(self.reader, record, frames.ravel())
        inverse = inverse.reshape(frames.shape)
        self.views.crop_frames(pictures, inverse, self.size, self.resize, self.sampling, out=clip)


def _no_labels(count: int, multi_hot: int) -> np.ndarray:
    """The labels of `count` rows, to be filled."""
    return np.zeros((count, multi_hot), np.uint8) if multi_hot else np.zeros(count, np.int32)


def _label(reader: ShardReader, label: str, record: int, multi_hot: int) -> int | np.ndarray:
    """The label of a video, or with `multi_hot` its labels: uint8 [multi_hot]."""
    if multi_hot:
        return reader.index.multi_hot(label, [record], multi_hot)[0]
    return int(reader.index.labels[label][record])


def _read_distinct(
    reader: ShardReader, record: int, indices: np.ndarray
) -> tuple[list[np.ndarray], np.ndarray]:
    """Reads and decodes each frame of a clip once, however often the clip shows it.

    Returns:
        The distinct frames, uint8 [H, W, 3] each, and int [len(indices)]: each frame of the clip as
        an index into them.
    """
    distinct, inverse = np.unique(indices, return_inverse=True)
    return read_pictures(reader, record, distinct.tolist()), inverse


def _repeat_frames(clip: np.ndarray, inverse: np.ndarray) -> None:
    """Copies the distinct frames, which the clip begins with, to all slots that show them."""
    if (np.diff(inverse) != 1).any():
        clip[:] = clip[inverse]


def _num_frames(reader: ShardReader, record: int) -> int:
    """Frames of a video; raises `DamagedRecord` if the index knows that it is damaged."""
    if reader.index.damaged[record]:
        reader.read_frames(record, ())
    return int(reader.index.num_frames[record])


def _host_block(batch_size: int, host_index: int, host_count: int) -> range:
    """The rows of a global batch that a host makes."""
    if not 0 <= host_index < host_count:
        raise UserError(f"host {host_index} of {host_count}: it must be 0 to {host_count - 1}")
    if batch_size % host_count:
        raise UserError(
            f"a batch of {batch_size} does not split evenly over {host_count} hosts; use a "
            f"multiple of {host_count}"
        )
    size = batch_size // host_count
    return range(host_index * size, (host_index + 1) * size)


def _check_label(reader: ShardReader, label: str) -> None:
    if label not in reader.index.labels:
        raise DataError(
            f"the split has no label {label!r}; it has {', '.join(reader.index.labels)}: set "
            "data.label to one of them"
        )
