"""The index of one shard, built record by record while the shard is written or scanned."""

from array import array
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from aia_jax.shards import example
from aia_jax.shards.example import ExampleError, Feature
from aia_jax.shards.tfrecord import crc32c, scan_records

NO_LABEL = -1  # of a record that is damaged or lacks the feature
_NOT_LABELS = (example.NUM_FRAMES, example.HEIGHT, example.WIDTH)


class ShardIndexBuilder:
    """Gathers the columns of one shard's index, an entry a record. Can be pickled.

    Attributes:
        record_offset, record_length, height, width, fps, labels, frame_offset, frame_length,
            frame_crc: columns as in `Index`, for the records added so far.
        frames_per_record: frames of each record; 0 if it is damaged.
        several_labels: of each label feature, all labels of the records that have more than one.
        video_ids: of each record, in UTF-8.
        damage: why a record is damaged, by its number in the shard.
    """

    def __init__(self):
        self.record_offset, self.record_length = array("q"), array("q")
        self.height, self.width, self.fps = array("q"), array("q"), array("f")
        self.frames_per_record = array("q")
        self.frame_offset, self.frame_length, self.frame_crc = array("q"), array("i"), array("I")
        self.labels: dict[str, array] = {}
        self.several_labels: dict[str, dict[int, list[int]]] = {}
        self.video_ids: list[bytes] = []
        self.damage: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self.record_offset)

    @classmethod
    def scan(cls, path: str | Path) -> "ShardIndexBuilder":
        """Builds the index of a finished shard from its content.

        Raises:
            DataError: if the shard is cut short or a record cannot be found, as `scan_records`.
        """
        builder = cls()
        for record in scan_records(path):
            builder.add(
                record.data,
                record.offset,
                "" if record.intact else "its data does not match the checksum stored with it",
            )
        return builder

    def add(self, record: bytes, offset: int, damage: str = "") -> None:
        """Appends one record.

        A record that is no video is entered as damaged: with no frames, label -1 and the reason.

        Args:
            record: the serialized `tf.train.Example`.
            offset: where it begins in the shard, as `RecordWriter.write` returned.
            damage: why the record is known to be damaged; empty if it is not.
        """
        features, spans = {}, []
        try:
            features = example.parse_example(record)
            spans = _frame_spans(features)
        except ExampleError as error:
            damage = damage or f"not a record of a video: {error}"
        start, length = _single_value(features, example.VIDEO_ID, "bytes", (0, 0))
        self.video_ids.append(record[start : start + length])
        if damage:  # of the record's features only the video's id is entered, to name it
            self.damage[len(self)] = damage
            features, spans = {}, []
        self._add_labels(features)
        self.height.append(_single_value(features, example.HEIGHT, "int", 0))
        self.width.append(_single_value(features, example.WIDTH, "int", 0))
        self.fps.append(_single_value(features, example.FPS, "float", 0.0))
        for start, length in spans:
            self.frame_offset.append(offset + start)
            self.frame_length.append(length)
            self.frame_crc.append(crc32c(record[start : start + length]))
        self.frames_per_record.append(len(spans))
        self.record_length.append(len(record))
        self.record_offset.append(offset)

    def add_written(
        self,
        offset: int,
        length: int,
        labels: Mapping[str, int | Sequence[int]],
        video_id: str,
        fps: float,
        height: int,
        width: int,
        frames: Iterable[tuple[int, int, int]],
    ) -> None:
        """Appends a record that was just written, without its bytes.

        Args:
            offset: where it begins in the shard, as `RecordWriter.write_pieces` returned.
            length: of the record, in bytes.
            labels: as in `example.encode_around_frames`, as the next four.
            video_id: the video's name.
            fps: frames a second.
            height: of the frames.
            width: of the frames.
            frames: of each frame the offset in the record, the length and the CRC32C.
        """
        features = {
            name: Feature("int", example.label_list(labels[name])) for name in sorted(labels)
        }
        self._add_labels(features)
        self.video_ids.append(video_id.encode(errors="surrogateescape"))
        self.height.append(height)
        self.width.append(width)
        self.fps.append(fps)
        before = len(self.frame_offset)
        for start, size, crc in frames:
            self.frame_offset.append(offset + start)
            self.frame_length.append(size)
            self.frame_crc.append(crc)
        self.frames_per_record.append(len(self.frame_offset) - before)
        self.record_length.append(length)
        self.record_offset.append(offset)

    def _add_labels(self, features: dict[str, Feature]) -> None:
        """Appends the labels: the features of integers that do not describe the frames.

        The column has the first one of each record.
        """
        found = {
            name: feature.values
            for name, feature in features.items()
            if feature.kind == "int" and feature.values and name not in _NOT_LABELS
        }
        for name, values in found.items():
            if name not in self.labels:
                # The records before this one do not have this label.
                self.labels[name] = array("q", [NO_LABEL]) * len(self)
            if len(values) > 1:
                self.several_labels.setdefault(name, {})[len(self)] = list(values)
        for name, column in self.labels.items():
            column.append(found[name][0] if name in found else NO_LABEL)


def _frame_spans(features: dict[str, Feature]) -> list[tuple[int, int]]:
    """(offset in the record, length) of each frame; raises `ExampleError` if there are none."""
    frames = features.get(example.FRAMES)
    if frames is None:
        raise ExampleError(f"no feature {example.FRAMES!r} among {sorted(features)}")
    if frames.kind != "bytes" or not frames.values:
        raise ExampleError(f"the feature {example.FRAMES!r} holds no pictures")
    return frames.values


def _single_value(features: dict[str, Feature], name: str, kind: str, default):
    """The value of a feature that holds just one value of this kind, else `default`."""
    feature = features.get(name)
    if feature and feature.kind == kind and len(feature.values) == 1:
        return feature.values[0]
    return default
