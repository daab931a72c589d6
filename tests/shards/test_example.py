"""The wire format of tf.train.Example against protobuf, which gets the message's fields here."""

import struct

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from aia_jax.shards.example import ExampleError, encode_example, parse_example

QUICK = settings(max_examples=200, deadline=None)


def _example_class():
    """tf.train.Example as tensorflow/core/example/{example,feature}.proto declare it."""
    file = descriptor_pb2.FileDescriptorProto(
        name="example.proto", package="tensorflow", syntax="proto3"
    )
    field = descriptor_pb2.FieldDescriptorProto

    def message(name, *fields, into=None):
        new = (into.nested_type if into else file.message_type).add(name=name)
        for number, (field_name, type_, label, type_name) in enumerate(fields, 1):
            new.field.add(
                name=field_name, number=number, type=type_, label=label, type_name=type_name
            )
        return new

    one, many = field.LABEL_OPTIONAL, field.LABEL_REPEATED
    message("BytesList", ("value", field.TYPE_BYTES, many, None))
    message("FloatList", ("value", field.TYPE_FLOAT, many, None))
    message("Int64List", ("value", field.TYPE_INT64, many, None))
    lists = [("bytes_list", "BytesList"), ("float_list", "FloatList"), ("int64_list", "Int64List")]
    feature = message(
        "Feature", *((name, field.TYPE_MESSAGE, one, f".tensorflow.{kind}") for name, kind in lists)
    )
    feature.oneof_decl.add(name="kind")
    for each in feature.field:
        each.oneof_index = 0
    features = message(
        "Features", ("feature", field.TYPE_MESSAGE, many, ".tensorflow.Features.FeatureEntry")
    )
    entry_fields = (
        ("key", field.TYPE_STRING, one, None),
        ("value", field.TYPE_MESSAGE, one, ".tensorflow.Feature"),
    )
    message("FeatureEntry", *entry_fields, into=features).options.map_entry = True
    message("Example", ("features", field.TYPE_MESSAGE, one, ".tensorflow.Features"))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.Example"))


Example = _example_class()


def parsed_by_protobuf(record: bytes) -> dict:
    """{name: (kind, values)} as protobuf reads the record."""
    kinds = {"bytes_list": "bytes", "float_list": "float", "int64_list": "int", None: ""}
    found = {}
    for name, feature in Example.FromString(record).features.feature.items():
        kind = feature.WhichOneof("kind")
        found[name] = (kinds[kind], [*getattr(feature, kind).value] if kind else [])
    return found


def parsed_by_us(record: bytes) -> dict:
    """The same through `parse_example`, its offsets resolved to the bytes there."""
    found = {}
    for name, (kind, values) in parse_example(record).items():
        assert all(
            0 <= offset <= offset + length <= len(record)
            for offset, length in (values if kind == "bytes" else [])
        )
        found[name] = (
            kind,
            [record[offset : offset + length] for offset, length in values]
            if kind == "bytes"
            else values,
        )
    return found


def same(a: dict, b: dict) -> bool:
    return repr(sorted(a.items())) == repr(sorted(b.items()))  # NaN equals NaN, -0.0 is not 0.0


def delimited(number: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    assert len(content) < 128
    return bytes([number << 3 | 2, len(content)]) + content


def one_feature(name: bytes, feature: bytes) -> bytes:
    return delimited(1, delimited(1, delimited(1, name), delimited(2, feature)))


VIDEO = encode_example(
    [b"first", b"second" * 60, b""], {"verb": 3, "noun": 351}, "P01/übung", 29.97, 240, 320
)

values = st.one_of(
    st.tuples(st.just("bytes_list"), st.lists(st.binary(max_size=200), max_size=5)),
    st.tuples(st.just("float_list"), st.lists(st.floats(width=32), max_size=5)),
    st.tuples(st.just("int64_list"), st.lists(st.integers(-(1 << 63), (1 << 63) - 1), max_size=5)),
)


def test_protobuf_reads_what_we_write():
    assert parsed_by_protobuf(VIDEO) == {
        "frames": ("bytes", [b"first", b"second" * 60, b""]),
        "video_id": ("bytes", ["P01/übung".encode()]),
        "verb": ("int", [3]),
        "noun": ("int", [351]),
        "num_frames": ("int", [3]),
        "fps": ("float", [struct.unpack("<f", struct.pack("<f", 29.97))[0]]),
        "height": ("int", [240]),
        "width": ("int", [320]),
    }
    assert same(parsed_by_us(VIDEO), parsed_by_protobuf(VIDEO))


@QUICK
@given(st.dictionaries(st.text(max_size=10), values, max_size=5))
def test_we_read_what_protobuf_writes(features):
    message = Example()
    for name, (kind, numbers) in features.items():
        getattr(message.features.feature[name], kind).value.extend(numbers)
    assert same(
        parsed_by_us(message.SerializeToString()), parsed_by_protobuf(message.SerializeToString())
    )


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        pytest.param(
            one_feature(b"a", delimited(3, b"\x08\x05\x08\x06")),
            ("int", [5, 6]),
            id="unpacked ints",
        ),
        pytest.param(
            one_feature(b"a", delimited(3, delimited(1, b"\x05\x06"))),
            ("int", [5, 6]),
            id="packed ints",
        ),
        pytest.param(
            one_feature(b"a", delimited(3, b"\x08\x05" + delimited(1, b"\x06"))),
            ("int", [5, 6]),
            id="both forms in one list",
        ),
        pytest.param(
            one_feature(b"a", delimited(3, b"\x08" + b"\xff" * 9 + b"\x01")),
            ("int", [-1]),
            id="negative",
        ),
        pytest.param(
            one_feature(b"a", delimited(2, b"\x0d" + struct.pack("<f", 1.5))),
            ("float", [1.5]),
            id="unpacked floats",
        ),
        pytest.param(
            one_feature(b"a", delimited(2, delimited(1, struct.pack("<2f", 1.5, 2)))),
            ("float", [1.5, 2.0]),
            id="packed floats",
        ),
        pytest.param(one_feature(b"a", b""), ("", []), id="no list"),
        pytest.param(
            delimited(
                1, delimited(1, delimited(2, delimited(1, delimited(1, b"x"))), delimited(1, b"a"))
            ),
            ("bytes", [b"x"]),
            id="value before name",
        ),
        pytest.param(
            one_feature(b"a", delimited(3, b"\x08\x05"))
            + one_feature(b"a", delimited(3, b"\x08\x06")),
            ("int", [6]),
            id="the last entry counts",
        ),
        pytest.param(
            one_feature(b"a", delimited(3, b"\x08\x05") + delimited(3, b"\x08\x06")),
            ("int", [5, 6]),
            id="a split list is joined",
        ),
        pytest.param(
            one_feature(b"a", delimited(3, b"\x08\x05") + delimited(1, b"")),
            ("bytes", []),
            id="of two kinds the last counts",
        ),
        pytest.param(
            b"\x10\x07"
            + one_feature(b"a", b"\x21" + bytes(8) + delimited(3, b"\x15" + bytes(4) + b"\x08\x05"))
            + delimited(9, b"?"),
            ("int", [5]),
            id="unknown fields",
        ),
        pytest.param(
            b"\x4b\x0a\x01\x00\x53\x54\x4c" + one_feature(b"a", delimited(3, b"\x08\x05")),
            ("int", [5]),
            id="unknown groups",
        ),
    ],
)
def test_forms_that_other_writers_may_choose(record, expected):
    assert parsed_by_us(record) == {"a": expected}
    assert parsed_by_protobuf(record) == {"a": expected}


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (b"\x0a", "cut short at byte 1"),
        (b"\x0a\x05ab", "announces 5 bytes, 2 are left"),
        (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "announces 18446744073709551615 bytes"),
        (b"\x08" + b"\x80" * 10 + b"\x01", "longer than ten bytes"),
        (b"\x02\x00", "field number 0 at byte 0"),
        (b"\x0f", "wire type 7 at byte 0"),
        (b"\x4c", "wire type 4 at byte 0"),
        (b"\x4b\x0a\x00", "group 9 has no end by byte 3"),
        (one_feature(b"\xff", b""), "name at byte 6 is not UTF-8"),
        (
            one_feature(b"a", delimited(2, delimited(1, b"123"))),
            "3 bytes long, not a multiple of 4",
        ),
    ],
)
def test_malformed_records_are_named_by_byte(record, message):
    with pytest.raises(ExampleError, match=message):
        parse_example(record)


def _agrees_or_is_refused(record: bytes):
    try:
        found = parsed_by_us(record)
    except ExampleError:
        with pytest.raises(DecodeError):
            parsed_by_protobuf(record)
        return
    try:
        expected = parsed_by_protobuf(record)
    except DecodeError:
        return  # protobuf is stricter in a few corners that lose nothing here
    assert same(found, expected)


@QUICK
@given(st.binary(max_size=300))
def test_any_bytes_are_parsed_or_refused(record):
    _agrees_or_is_refused(record)
    _agrees_or_is_refused(one_feature(b"a", record[:100]))


@QUICK
@given(st.data())
def test_damaged_records_are_parsed_or_refused(data):
    damaged = bytearray(VIDEO)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    _agrees_or_is_refused(bytes(damaged[: data.draw(st.integers(0, len(damaged)))]))


@pytest.mark.parametrize("label", ["height", "frames", "video_id"])
def test_a_label_cannot_take_a_name_of_the_record(label):
    with pytest.raises(ValueError, match=f"named '{label}'"):
        encode_example([], {label: 1}, "v", 1.0, 2, 2)


def test_numbers_beyond_64_bits_are_refused():
    with pytest.raises(ValueError, match="does not fit into 64 bits"):
        encode_example([], {"label": 1 << 63}, "v", 1.0, 2, 2)
