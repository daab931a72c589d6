"""The index rows of one shard, gathered record by record while the shard is written or scanned."""

from array import array
from pathlib import Path

from aia_jax.shards import example
from aia_jax.shards.example import ExampleError, Feature
from aia_jax.shards.tfrecord import crc32c, scan_records

NO_LABEL = -1  # of a record that is damaged or lacks the feature
_NOT_LABELS = (example.NUM_FRAMES, example.HEIGHT, example.WIDTH)


class ShardRows:
    """Rows of one shard, in the order of its records. Can be sent to another process."""

    def __init__(self):
        self.record_offset, self.record_length = array("q"), array("q")
        self.height, self.width, self.fps = array("q"), array("q"), array("f")
        self.frames_of_record = array("q")
        self.frame_offset, self.frame_length, self.frame_crc = array("q"), array("i"), array("I")
        self.labels: dict[str, array] = {}
        self.video_ids: list[bytes] = []
        self.damage: dict[int, str] = {}  # record → reason

    def __len__(self) -> int:
        return len(self.record_offset)

    @classmethod
    def scan(cls, path: str | Path) -> "ShardRows":
        """Reads a whole shard; `DataError` where it is cut short or cannot be followed (see
        `scan_records`).
        """
        rows = cls()
        for record in scan_records(path):
            rows.add(
                record.data,
                record.offset,
                "" if record.intact else "its data does not match the checksum stored with it",
            )
        return rows

    def add(self, record: bytes, offset: int, damage: str = "") -> None:
        """Appends the row of one record.

        A record that is no video becomes a damaged row: no frames, label -1, its reason kept.

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
        place, length = _single(features, example.VIDEO_ID, "bytes", (0, 0))
        self.video_ids.append(record[place : place + length])
        if damage:  # only the name is worth keeping: a person looks for it
            self.damage[len(self)] = damage
            features, spans = {}, []
        self._add_labels(features)
        self.height.append(_single(features, example.HEIGHT, "int", 0))
        self.width.append(_single(features, example.WIDTH, "int", 0))
        self.fps.append(_single(features, example.FPS, "float", 0.0))
        for place, length in spans:
            self.frame_offset.append(offset + place)
            self.frame_length.append(length)
            self.frame_crc.append(crc32c(record[place : place + length]))
        self.frames_of_record.append(len(spans))
        self.record_length.append(len(record))
        self.record_offset.append(offset)

    def _add_labels(self, features: dict[str, Feature]) -> None:
        """Every feature of one integer that does not describe the frames is a label."""
        names = [
            name
            for name, feature in features.items()
            if feature.kind == "int" and len(feature.values) == 1
        ]
        for name in names:
            if name not in self.labels and name not in _NOT_LABELS:
                self.labels[name] = array("q", [NO_LABEL]) * len(
                    self
                )  # the records before had none
        for name, column in self.labels.items():
            column.append(_single(features, name, "int", NO_LABEL))


def _frame_spans(features: dict[str, Feature]) -> list[tuple[int, int]]:
    frames = features.get(example.FRAMES)
    if frames is None:
        raise ExampleError(f"no feature {example.FRAMES!r} among {sorted(features)}")
    if frames.kind != "bytes" or not frames.values:
        raise ExampleError(f"the feature {example.FRAMES!r} holds no pictures")
    return frames.values


def _single(features: dict[str, Feature], name: str, kind: str, absent):
    """The value of a feature that holds just one of this kind, else `absent`."""
    feature = features.get(name)
    return (
        feature.values[0]
        if feature and feature.kind == kind and len(feature.values) == 1
        else absent
    )
