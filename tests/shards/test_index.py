"""The index: the one made while writing equals that of a scan, in memory and as a file."""

import hashlib
import pickle
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aia_jax.errors import DataError
from aia_jax.shards import index_file
from aia_jax.shards.example import encode_example
from aia_jax.shards.index import Index, IndexFileError
from aia_jax.shards.index_builder import ShardIndexBuilder
from aia_jax.shards.index_merge import merge_index_files
from aia_jax.shards.tfrecord import RecordWriter, crc32c

videos = st.fixed_dictionaries(
    {
        "frames": st.lists(st.binary(max_size=50), min_size=1, max_size=4),
        "labels": st.dictionaries(
            st.sampled_from(["label", "verb", "noun"]),
            st.integers(-5, 400) | st.lists(st.integers(-5, 400), min_size=1, max_size=3),
        ),
        "video_id": st.text(max_size=8),
        "fps": st.floats(0, 100, width=32),
        "height": st.integers(0, 500),
        "width": st.integers(0, 500),
    }
)
no_videos = st.binary(max_size=20)
EACH_FOLDER_TWICE = settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def write(folder: Path, shards: list[list[bytes]]) -> tuple[list[Path], list[ShardIndexBuilder]]:
    """Writes shards, building their indices on the way."""
    paths, builders = [], []
    for number, records in enumerate(shards):
        paths.append(folder / f"shard-{number}")
        builders.append(ShardIndexBuilder())
        with RecordWriter(paths[-1]) as writer:
            for record in records:
                builders[-1].add(record, writer.write(record))
    return paths, builders


def video(frames=(b"x",), label=0, video_id="v", **labels) -> bytes:
    return encode_example(list(frames), {"label": label, **labels}, video_id, 12.5, 24, 32)


def assert_same(a: Index, b: Index) -> None:
    for field in fields(Index):
        first, second = getattr(a, field.name), getattr(b, field.name)
        if field.name == "file":
            continue
        if field.name == "labels":
            assert first.keys() == second.keys()
            first, second = list(first.values()), list(second.values())
        if field.name == "label_sets":
            assert {name: [one.tolist() for one in sets] for name, sets in first.items()} == {
                name: [one.tolist() for one in sets] for name, sets in second.items()
            }
            continue
        np.testing.assert_array_equal(
            first, second, strict=isinstance(first, np.ndarray), err_msg=field.name
        )


@EACH_FOLDER_TWICE
@given(st.lists(st.lists(videos | no_videos, max_size=4), max_size=3))
def test_rows_gathered_while_writing_equal_the_scan_and_the_file(tmp_path, shards):
    paths, builders = write(
        tmp_path,
        [
            [encode_example(**one) if isinstance(one, dict) else one for one in shard]
            for shard in shards
        ],
    )
    # As they come from a worker process.
    joined = Index.join(paths, pickle.loads(pickle.dumps(builders)))
    joined.save(tmp_path / "joined.index")
    Index.build(paths).save(tmp_path / "built.index")
    assert (tmp_path / "joined.index").read_bytes() == (tmp_path / "built.index").read_bytes()
    loaded = Index.load(tmp_path / "built.index")
    assert_same(loaded, joined)
    assert_same(pickle.loads(pickle.dumps(loaded)), joined)
    assert_same(pickle.loads(pickle.dumps(joined)), joined)
    assert loaded.find_mismatch(paths) == ""


def test_columns_say_where_everything_lies(tmp_path):
    records = [
        video([b"ab", b"c"], 3, "first"),
        video([b"def"], 1, "übung"),
        video([b"g", b"", b"hi"], 2, ""),
    ]
    paths, _ = write(tmp_path, [records[:2], [], records[2:]])
    index = Index.build(paths)
    assert [len(index), [index.video_id(n) for n in range(3)]] == [3, ["first", "übung", ""]]
    assert index.shard.tolist() == [0, 0, 2]
    assert index.first_record.tolist() == [0, 2, 2, 3]
    assert index.num_frames.tolist() == [2, 1, 3]
    assert index.labels["label"].tolist() == [3, 1, 2]
    assert list(index.labels) == ["label"]
    assert [index.height.tolist(), index.width.tolist(), index.fps.tolist()] == [
        [24] * 3,
        [32] * 3,
        [12.5] * 3,
    ]
    assert [index.describe(1), index.describe(2)] == [
        "shard shard-0, record 1, video übung",
        "shard shard-2, record 0, video ",
    ]
    frames = [b"ab", b"c", b"def", b"g", b"", b"hi"]
    for record in range(3):
        content = paths[index.shard[record]].read_bytes()
        start = index.record_offset[record]
        assert content[start : start + index.record_length[record]] == records[record]
        for row in range(index.first_frame[record], index.first_frame[record + 1]):
            start = index.frame_offset[row]
            assert content[start : start + index.frame_length[row]] == frames[row]
            assert index.frame_crc[row] == crc32c(frames[row])
    kinds = {
        "shard": np.int32,
        "record_offset": np.int64,
        "frame_length": np.int32,
        "frame_crc": np.uint32,
        "fps": np.float32,
    }
    assert {name: getattr(index, name).dtype for name in kinds} == kinds


def test_all_labels_of_a_record_are_found(tmp_path):
    records = [
        video(label=[4, 1], verb=2),
        b"no video",
        video(label=0, verb=[3]),
        video(label=[2, 0, 3]),
    ]
    _, builders = write(tmp_path, [records[:2], records[2:]])
    index = Index.join(sorted(tmp_path.glob("shard-*")), builders)
    index.save(tmp_path / "a.index")
    index = Index.load(tmp_path / "a.index")
    assert index.labels["label"].tolist() == [4, -1, 0, 2]  # the first ones
    assert index.multi_hot("label", [3, 0, 1, 2, 0], 5).tolist() == [
        [1, 0, 1, 1, 0],
        [0, 1, 0, 0, 1],
        [0, 0, 0, 0, 0],
        [1, 0, 0, 0, 0],
        [0, 1, 0, 0, 1],
    ]
    assert index.multi_hot("label", [], 5).shape == (0, 5)
    # No record has several verbs.
    assert list(index.label_sets) == ["label"]
    assert index.multi_hot("verb", [0, 1, 2, 3], 4).tolist() == [
        [0, 0, 1, 0],
        [0, 0, 0, 0],
        [0, 0, 0, 1],
        [0, 0, 0, 0],
    ]
    assert index.label_set("verb").start.tolist() == [0, 1, 1, 2, 2]


def test_files_of_single_labels_have_the_bytes_of_older_versions(tmp_path):
    records = [
        [video([b"ab", b"c"], 3, "first"), b"no video"],
        [],
        [video([b"def"], 1, "übung", verb=7)],
    ]
    paths, builders = write(tmp_path, records)
    Index.join(paths, builders).save(tmp_path / "a.index")
    shards = b"".join(path.read_bytes() for path in paths)
    assert hashlib.sha256(shards).hexdigest()[:16] == "139045c75e9933a1"
    assert (
        hashlib.sha256((tmp_path / "a.index").read_bytes()).hexdigest()[:16] == "f7f34293ea3d06b4"
    )


def test_every_integer_of_a_record_but_those_of_its_frames_is_a_label(tmp_path):
    two = [
        encode_example([b"x"], {"verb": 5, "noun": 300}, "a", 1.0, 2, 2),
        encode_example([b"x"], {"noun": 7}, "b", 1.0, 2, 2),
    ]
    paths, _ = write(tmp_path, [[b"damaged"], two, [video(label=1)]])
    labels = Index.build(paths).labels
    expected = {"label": [-1, -1, -1, 1], "noun": [-1, 300, 7, -1], "verb": [-1, 5, -1, -1]}
    assert {name: column.tolist() for name, column in labels.items()} == expected


def test_an_index_of_no_records(tmp_path):
    paths, builders = write(tmp_path, [[]])
    Index.join(paths, builders).save(tmp_path / "index")
    loaded = Index.load(tmp_path / "index")
    assert [len(loaded), loaded.labels, loaded.num_frames.tolist(), loaded.damaged.tolist()] == [
        0,
        {},
        [],
        [],
    ]


def test_a_video_id_that_is_not_text_is_kept_and_shown(tmp_path):
    # A Latin-1 file name, as Python hands it out.
    paths, _ = write(tmp_path, [[video(video_id="caf\udce9.avi")]])
    index = Index.build(paths)
    assert index.video_id_bytes.tobytes() == b"caf\xe9.avi"
    assert index.video_id(0) == "caf\\xe9.avi"


@EACH_FOLDER_TWICE
@given(offset=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_any_flipped_bit_of_the_file_is_noticed(tmp_path, offset, bit):
    paths, builders = write(tmp_path, [[video([b"x" * n], n, f"video {n}") for n in range(1, 9)]])
    Index.join(paths, builders).save(tmp_path / "index")
    content = bytearray((tmp_path / "index").read_bytes())
    content[offset % len(content)] ^= 1 << bit
    (tmp_path / "index").write_bytes(content)
    with pytest.raises(IndexFileError, match="does not match its checksum"):
        Index.load(tmp_path / "index")


def test_a_file_of_another_version_is_refused(tmp_path, monkeypatch):
    paths, builders = write(tmp_path, [[video()]])
    with monkeypatch.context() as patch:
        patch.setattr(index_file, "_VERSION", 2)
        Index.join(paths, builders).save(tmp_path / "index")
    with pytest.raises(IndexFileError, match="of version 2, this program reads 1"):
        Index.load(tmp_path / "index")


def test_a_file_of_another_kind_is_refused(tmp_path):
    content = b"something else, though with a right checksum"
    (tmp_path / "index").write_bytes(content + crc32c(content).to_bytes(4, "little"))
    with pytest.raises(IndexFileError, match="does not begin as an index does"):
        Index.load(tmp_path / "index")


def test_a_loaded_index_travels_as_its_path(tmp_path):
    paths, builders = write(tmp_path, [[video([b"x"] * 1000)]])
    index = Index.join(paths, builders)
    index.save(tmp_path / "index")
    loaded = Index.load(tmp_path / "index")
    assert len(pickle.dumps(loaded)) < 1000 < len(pickle.dumps(index))


def test_a_worker_that_finds_another_index_says_so(tmp_path):
    paths, builders = write(tmp_path, [[video(label=1)]])
    Index.join(paths, builders).save(tmp_path / "index")
    loaded = Index.load(tmp_path / "index")
    sent = pickle.dumps(loaded)
    paths, builders = write(tmp_path, [[video(label=2)]])
    Index.join(paths, builders).save(tmp_path / "index")
    assert loaded.labels["label"].tolist() == [1]  # who has it open keeps the old one
    with pytest.raises(
        DataError, match="was replaced while a run was using it; start the run again"
    ):
        pickle.loads(sent)


@pytest.mark.parametrize(
    ("offset", "noticed"), [(0, True), (70_000, True), (199_000, True), (100_000, False)]
)
def test_the_fingerprint_covers_both_ends_of_a_shard(tmp_path, offset, noticed):
    """The middle is left to the checksum of each frame."""
    paths, builders = write(tmp_path, [[video([bytes(200_000)])]])
    index = Index.join(paths, builders)
    content = bytearray(paths[0].read_bytes())
    content[offset if offset != 70_000 else 65_535] ^= 1
    paths[0].write_bytes(content)
    assert bool(index.find_mismatch(paths)) is noticed
    assert "2 of other names" in index.find_mismatch([tmp_path / "a", tmp_path / "b"])


@pytest.mark.parametrize("second", [{"verb": 1}, {}, {"label": 5, "verb": 2}])
def test_merged_parts_are_the_joined_index(tmp_path, second):
    paths, builders = (
        [tmp_path / f"s-{k}" for k in range(3)],
        [ShardIndexBuilder() for _ in range(3)],
    )
    videos = {
        0: [({"label": 3}, 4), ({"label": 0}, 1)],
        1: [],
        2: [(second, 7), (second, 2), (second, 3)],
    }
    for k, path in enumerate(paths):
        with RecordWriter(path) as writer:
            for number, (labels, frames) in enumerate(videos[k]):
                record = encode_example(
                    [bytes([number]) * 5] * frames, labels, f"é{k}/{number}", 12.5, 24, 32
                )
                builders[k].add(
                    record, writer.write(record), "broken" if (k, number) == (2, 1) else ""
                )
        Index.join([path], [builders[k]]).save(tmp_path / f"{k}.part")
    Index.join(paths, builders).save(tmp_path / "joined")
    merge_index_files([tmp_path / f"{k}.part" for k in range(3)], tmp_path / "merged")
    assert (tmp_path / "merged").read_bytes() == (tmp_path / "joined").read_bytes()
    assert Index.load(tmp_path / "merged").video_id(4) == "é2/2"
