"""Writes and parses the bytes of a `tf.train.Example`, the content of a record.

The message (tensorflow/core/example/{example,feature}.proto) is a map from names to lists of bytes,
floats or integers. This module parses the wire format (protobuf.dev/programming-guides/encoding)
itself: a reader of a clip needs the *offset* of each frame in the record, which no protobuf library
gives. It then needs neither TensorFlow nor a copy of every frame.
"""

import itertools
import numbers
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

FRAMES = "frames"
VIDEO_ID = "video_id"
NUM_FRAMES = "num_frames"
FPS = "fps"
HEIGHT = "height"
WIDTH = "width"

_VARINT, _FIXED64, _DELIMITED, _GROUP, _END_GROUP, _FIXED32 = range(6)
_KINDS = {1: "bytes", 2: "float", 3: "int"}  # by field number: the oneof of `Feature`


class ExampleError(ValueError):
    """These bytes are not a `tf.train.Example`, or not one of a video."""


class Feature(NamedTuple):
    """One entry of the map.

    Attributes:
        kind: "bytes", "float", "int", or "" for an entry that holds no list.
        values: numbers; for "bytes" the (offset, length) of each element, counted from the start of
            the record.
    """

    kind: str
    values: list


def encode_example(
    frames: Sequence[bytes],
    labels: Mapping[str, int | Sequence[int]],
    video_id: str,
    fps: float,
    height: int,
    width: int,
) -> bytes:
    """Writes one video as a serialized `tf.train.Example`.

    Args:
        frames: the video's frames, each an encoded picture (JPEG).
        labels: the integer labels by feature name, as `{"label": 3}`, or `{"label": (3, 5)}` for a
            video that has several.
        video_id: the video's name in the raw data.
        fps: frames a second of the stored frames; 0 where unknown.
        height: of the stored frames, in pixels.
        width: of the stored frames, in pixels.
    """
    lengths = [len(frame) for frame in frames]
    before, after = encode_around_frames(lengths, labels, video_id, fps, height, width)
    heads = map(encode_frame_head, lengths)
    return b"".join(
        (before, *itertools.chain.from_iterable(zip(heads, frames, strict=True)), after)
    )


def label_list(labels: int | Sequence[int]) -> list[int]:
    """The labels of a video as a list, be it one or several."""
    return [labels] if isinstance(labels, numbers.Integral) else list(labels)


def encode_frame_head(length: int) -> bytes:
    """The bytes of a record that stand before a frame of `length` bytes."""
    return _delimited_head(1, length)


def encode_around_frames(
    lengths: Sequence[int],
    labels: Mapping[str, int | Sequence[int]],
    video_id: str,
    fps: float,
    height: int,
    width: int,
) -> tuple[bytes, bytes]:
    """The bytes of a record before and after its frames, so that these need not be in memory.

    Between them stand, for each frame, `encode_frame_head` and the frame. Arguments as in
    `encode_example`.

    Args:
        lengths: the bytes of each frame.
        labels: the integer labels by feature name.
        video_id: the video's name.
        fps: frames a second.
        height: of the frames.
        width: of the frames.
    """
    features = {
        # The bytes of the name as the file system has them, even if they are not UTF-8.
        VIDEO_ID: _delimited(1, _delimited(1, video_id.encode(errors="surrogateescape"))),
        FPS: _delimited(2, _delimited(1, struct.pack("<f", fps))),
    }
    integers = {NUM_FRAMES: len(lengths), HEIGHT: height, WIDTH: width}
    if taken := sorted(labels.keys() & ({FRAMES} | features.keys() | integers.keys())):
        raise ValueError(f"a label cannot be named {taken[0]!r}: the record uses that name itself")
    for name, values in (integers | dict(labels)).items():
        packed = b"".join(_encode_int(int(value)) for value in label_list(values))
        features[name] = _delimited(3, _delimited(1, packed))
    entries = {
        name: _delimited(1, _delimited(1, name.encode()) + _delimited(2, feature))
        for name, feature in features.items()
    }
    # The same nesting, written as heads: bytes list, feature, entry of the map.
    inner = sum(len(encode_frame_head(length)) + length for length in lengths)
    heads = [_delimited_head(1, inner)]
    heads.insert(0, _delimited_head(2, len(heads[0]) + inner))
    heads.insert(0, _delimited(1, FRAMES.encode()))
    frames_length = sum(map(len, heads)) + inner
    heads.insert(0, _delimited_head(1, frames_length))
    names = sorted(entries)
    first = b"".join(entries[name] for name in names if name < FRAMES) + b"".join(heads)
    after = b"".join(entries[name] for name in names if name > FRAMES)
    return _delimited_head(1, len(first) + inner + len(after)) + first, after


def parse_example(record: bytes) -> dict[str, Feature]:
    """Parses a serialized `tf.train.Example` into its features by name.

    Fields may have any order, numbers may be packed or not; unknown fields are skipped. Repeated
    fields follow protobuf's rules: of two entries with one name the last counts, and the parts of a
    split list are joined.

    Raises:
        ExampleError: if the bytes are cut short or malformed; says at which byte.
    """
    features = {}
    for number, wire, start, stop in _fields(record, 0, len(record)):
        if (number, wire) == (1, _DELIMITED):
            for number, wire, entry_start, entry_stop in _fields(record, start, stop):
                if (number, wire) == (1, _DELIMITED):
                    name, feature = _parse_entry(record, entry_start, entry_stop)
                    features[name] = feature
    return features


def _parse_entry(record: bytes, start: int, stop: int) -> tuple[str, Feature]:
    name, feature = "", Feature("", [])
    for number, wire, begin, end in _fields(record, start, stop):
        if (number, wire) == (1, _DELIMITED):
            try:
                name = record[begin:end].decode()
            except UnicodeDecodeError:
                raise ExampleError(f"the feature name at byte {begin} is not UTF-8") from None
        elif (number, wire) == (2, _DELIMITED):
            feature = _parse_feature(record, begin, end, feature)
    return name, feature


def _parse_feature(record: bytes, start: int, stop: int, feature: Feature) -> Feature:
    kind, values = feature
    for number, wire, begin, end in _fields(record, start, stop):
        if wire == _DELIMITED and number in _KINDS:
            if _KINDS[number] != kind:
                kind, values = _KINDS[number], []  # if a oneof is set twice, the last one counts
            _PARSE_LIST[kind](record, begin, end, values)
    return Feature(kind, values)


def _parse_bytes(record: bytes, start: int, stop: int, values: list) -> None:
    for number, wire, begin, end in _fields(record, start, stop):
        if (number, wire) == (1, _DELIMITED):
            values.append((begin, end - begin))


def _parse_floats(record: bytes, start: int, stop: int, values: list) -> None:
    for number, wire, begin, end in _fields(record, start, stop):
        if number == 1 and wire in (_FIXED32, _DELIMITED):
            count, rest = divmod(end - begin, 4)
            if rest:
                raise ExampleError(
                    f"the packed floats at byte {begin} are {end - begin} bytes long, not a "
                    "multiple of 4"
                )
            values.extend(struct.unpack_from(f"<{count}f", record, begin))


def _parse_ints(record: bytes, start: int, stop: int, values: list) -> None:
    for number, wire, begin, end in _fields(record, start, stop):
        if number == 1 and wire in (_VARINT, _DELIMITED):
            while begin < end:
                value, begin = _varint(record, begin, end)
                values.append(value - (1 << 64) if value >> 63 else value)


_PARSE_LIST = {"bytes": _parse_bytes, "float": _parse_floats, "int": _parse_ints}


def _fields(record: bytes, at: int, stop: int) -> Iterator[tuple[int, int, int, int]]:
    """Yields (field number, wire type, start, stop) of each field's content within a span."""
    open_groups = []
    while at < stop:
        tag_at = at
        tag, at = _varint(record, at, stop)
        number, wire = tag >> 3, tag & 7
        if not 0 < number < 1 << 29:
            raise ExampleError(f"field number {number} at byte {tag_at}")
        if wire == _DELIMITED:
            length, at = _varint(record, at, stop)
        elif wire == _VARINT:
            length = _varint(record, at, stop)[1] - at
        elif wire in (_FIXED64, _FIXED32):
            length = 8 if wire == _FIXED64 else 4
        elif wire == _GROUP:
            open_groups.append(number)
            continue
        elif wire == _END_GROUP and open_groups and open_groups.pop() == number:
            continue
        else:
            raise ExampleError(f"wire type {wire} at byte {tag_at}")
        if length > stop - at:
            raise ExampleError(
                f"the field at byte {tag_at} announces {length} bytes, {stop - at} are left"
            )
        if not open_groups:  # groups are unknown fields, so their content is skipped
            yield number, wire, at, at + length
        at += length
    if open_groups:
        raise ExampleError(f"group {open_groups[-1]} has no end by byte {stop}")


def _varint(record: bytes, at: int, stop: int) -> tuple[int, int]:
    """Reads the 64-bit number at byte `at`; returns it and the byte after it."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= stop:
            raise ExampleError(f"a number is cut short at byte {at}")
        byte = record[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at
    raise ExampleError(f"a number before byte {at} is longer than ten bytes")


def _delimited(number: int, content: bytes) -> bytes:
    return _delimited_head(number, len(content)) + content


def _delimited_head(number: int, length: int) -> bytes:
    return bytes([number << 3 | _DELIMITED]) + _encode_int(length)


def _encode_int(value: int) -> bytes:
    if not -(1 << 63) <= value < 1 << 63:
        raise ValueError(f"{value} does not fit into 64 bits")
    value &= 0xFFFF_FFFF_FFFF_FFFF
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
