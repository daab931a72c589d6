"""Opening a split whose shards or index are missing, cut short, damaged or another split's."""

import gzip
import logging
import os
import pickle
from pathlib import Path

import pytest

from aia_jax.errors import DataError
from aia_jax.shards.example import encode_example
from aia_jax.shards.reader import DamagedRecord, open_split
from aia_jax.shards.tfrecord import scan_records
from tests.helpers.tiny_data import make_dataset
from tests.helpers.tiny_shards import flip_byte, shard, write_shard


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Nine videos of ten frames in each split, in two shards of five and four."""
    return make_dataset(tmp_path / "set")


# --- shards ---


def test_a_split_that_does_not_exist(dataset):
    with pytest.raises(
        DataError, match=r"no split 'test'; it has train \(9 videos\), validation \(9 videos\)"
    ):
        open_split(dataset, "test")


def test_a_missing_shard_is_named(dataset):
    shard(dataset, 1).unlink()
    with pytest.raises(
        DataError, match=r"1 of 2 shards are missing \(tiny-train.tfrecord-00001-of-00002\); copy"
    ):
        open_split(dataset, "train")


def test_a_shard_that_may_not_be_read(dataset, monkeypatch):
    (dataset / "train.index").unlink()
    open_path = Path.open

    def refuse(self, *arguments, **options):
        if ".tfrecord-" in self.name:
            raise PermissionError(13, "Permission denied", str(self))
        return open_path(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", refuse)  # root may read everything
    with pytest.raises(
        DataError, match=r"a shard of the split train cannot be read \(.*Permission"
    ):
        open_split(dataset, "train")


@pytest.mark.parametrize("with_index", [True, False])
@pytest.mark.parametrize("cut", [1, 4, 5000, 16_200])
def test_a_shard_cut_inside_a_record(dataset, cut, with_index):
    path = shard(dataset, 0)
    os.truncate(path, path.stat().st_size - cut)
    original = (dataset / "train.index").read_bytes()
    if not with_index:
        (dataset / "train.index").unlink()
    with pytest.raises(
        DataError,
        match=r"00000-of-00002: record \d at byte \d+ is cut short: .*; \d whole records .* "
        r"prepare",
    ) as error:
        open_split(dataset, "train")
    assert "\n" not in str(error.value)
    if with_index:
        assert (dataset / "train.index").read_bytes() == original


def test_a_shard_cut_inside_a_length(dataset):
    path = shard(dataset, 0)
    *_, last = scan_records(path)
    os.truncate(path, last.offset - 5)
    with pytest.raises(
        DataError,
        match=rf"record 4 at byte {last.offset - 12} is cut short inside its length; 4 whole "
        r"records",
    ):
        open_split(dataset, "train")


@pytest.mark.parametrize("with_index", [True, False])
def test_a_shard_cut_between_records(dataset, with_index):
    path = shard(dataset, 0)
    *_, last = scan_records(path)
    os.truncate(path, last.offset - 12)
    original = (dataset / "train.index").read_bytes()
    if not with_index:
        (dataset / "train.index").unlink()
    with pytest.raises(
        DataError,
        match=r"00000-of-00002 holds 4 records, dataset_info.json says 5: it was cut short; copy",
    ):
        open_split(dataset, "train")
    if with_index:
        assert (dataset / "train.index").read_bytes() == original


def test_an_emptied_shard(dataset):
    os.truncate(shard(dataset, 1), 0)
    with pytest.raises(
        DataError, match=r"00001-of-00002 holds 0 records, dataset_info.json says 4"
    ):
        open_split(dataset, "train")


def test_a_shard_of_another_preparation(dataset):
    write_shard(shard(dataset, 1), [record.data for record in scan_records(shard(dataset, 0))])
    with pytest.raises(
        DataError,
        match=r"holds 5 records, dataset_info.json says 4: it belongs to another preparation",
    ):
        open_split(dataset, "train")


@pytest.mark.parametrize("number", [0, 7, 8, 11])
def test_a_flipped_byte_in_a_length(dataset, number):
    records = list(scan_records(shard(dataset, 0)))
    flip_byte(shard(dataset, 0), records[2].offset - 12 + number)
    with pytest.raises(
        DataError,
        match=rf"record 2 at byte {records[2].offset - 12} has a length that does not match .*; 2 "
        r"whole records",
    ):
        open_split(dataset, "train")


@pytest.mark.parametrize("offset", [0, 500, -1, -5])
def test_a_flipped_byte_in_the_data_makes_one_damaged_row(dataset, offset):
    records = list(scan_records(shard(dataset, 0)))
    flip_byte(
        shard(dataset, 0),
        records[2].offset + (offset if offset >= 0 else len(records[2].data) + 4 + offset),
    )
    reader = open_split(dataset, "train")
    assert reader.index.damaged.tolist() == [False, False, True, *[False] * 6]
    assert reader.index.num_frames.tolist() == [10, 10, 0, *[10] * 6]
    assert reader.index.labels["label"].tolist() == [0, 1, -1, 0, 1, 2, 0, 1, 2]
    with pytest.raises(
        DamagedRecord,
        match=r"record 2, video (train_2)?: its data does not match the checksum stored with it",
    ):
        reader.read_frames(2, [0])
    assert len(reader.read_frames(3, [0, 9])) == 2


def test_records_that_are_no_videos_are_damaged_rows(dataset):
    good = [record.data for record in scan_records(shard(dataset, 0))]
    write_shard(
        shard(dataset, 0),
        [good[0], b"\x0a\x05ab", b"", encode_example([], {"label": 1}, "none", 1.0, 2, 2), good[4]],
    )
    reader = open_split(dataset, "train")
    assert reader.index.damaged.tolist() == [False, True, True, True, False, *[False] * 4]
    with pytest.raises(
        DamagedRecord, match=r"not a record of a video: the field at byte 0 announces 5 bytes"
    ):
        reader.read_frames(1, [0])
    with pytest.raises(DamagedRecord, match=r"no feature 'frames' among \[\]"):
        reader.read_frames(2, [0])
    with pytest.raises(DamagedRecord, match=r"video none: .* 'frames' holds no pictures"):
        reader.read_frames(3, [0])


def test_a_split_without_a_single_video_is_an_error(dataset):
    for number, count in enumerate((5, 4)):
        write_shard(shard(dataset, number), [b""] * count)
    with pytest.raises(
        DataError,
        match=r"none of the 9 records can be used; the first: shard .*: no feature 'frames'",
    ):
        open_split(dataset, "train")


def test_a_compressed_shard_is_recognised(dataset):
    path = shard(dataset, 0)
    path.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(DataError, match=r"looks gzip-compressed"):
        open_split(dataset, "train")


def test_shards_without_records_are_fine(tmp_path):
    reader = open_split(make_dataset(tmp_path, shards=12), "train")
    assert len(reader) == 9
    assert len(reader.read_frames(8, [0])) == 1


# --- the index file ---


def test_a_missing_index_is_made_again(tmp_path, caplog):
    folder = make_dataset(tmp_path)
    original = (folder / "train.index").read_bytes()
    (folder / "train.index").unlink()
    with caplog.at_level(logging.WARNING):
        open_split(folder, "train")
        assert [record.message.split(";")[0] for record in caplog.records] == [
            f"index {folder / 'train.index'}: there is none"
        ]
        open_split(folder, "train")
    assert len(caplog.records) == 1
    assert (folder / "train.index").read_bytes() == original


@pytest.mark.parametrize("offset", [0, 9, 30, 0.5, -5, -1])
def test_a_flipped_byte_in_the_index_is_noticed(dataset, caplog, offset):
    path = dataset / "train.index"
    original = path.read_bytes()
    flip_byte(path, int(len(original) * offset) if isinstance(offset, float) else offset)
    reader = open_split(dataset, "train")
    assert [len(reader), path.read_bytes()] == [9, original]
    assert [record.message.split(";")[0] for record in caplog.records] == [
        f"index {path}: it does not match its checksum"
    ]


@pytest.mark.parametrize("size", [0, 3, 8, 100])
def test_a_cut_index_is_noticed(dataset, caplog, size):
    path = dataset / "train.index"
    original = path.read_bytes()
    os.truncate(path, size)
    open_split(dataset, "train")
    assert path.read_bytes() == original
    assert len(caplog.records) == 1


def test_an_index_of_other_shards_is_made_again(dataset, tmp_path, caplog):
    other = make_dataset(tmp_path / "other", seed=1)
    original = (dataset / "train.index").read_bytes()
    (dataset / "train.index").write_bytes((other / "train.index").read_bytes())
    open_split(dataset, "train")
    assert (dataset / "train.index").read_bytes() == original
    assert "tiny-train.tfrecord-00000-of-00002 is not the file it was made for" in caplog.text
    assert len(caplog.records) == 1


def test_copied_shards_keep_their_index(dataset, caplog):
    for path in dataset.iterdir():
        os.utime(path, (1, 1))
    open_split(dataset, "train")
    assert not caplog.records


def test_a_folder_that_takes_no_files_is_said_once(dataset, caplog):
    (dataset / "train.index").unlink()
    (dataset / "train.index").mkdir()  # nobody, not even root, can put a file there
    reader = open_split(dataset, "train")
    assert len(reader.read_frames(8, [9])) == 1
    assert len(pickle.loads(pickle.dumps(reader)).read_frames(8, [9])) == 1
    assert [record.message.split("(")[-1].split(")")[0] for record in caplog.records] == [
        "0.00 GB",
        "Is a directory",
    ]
    assert "kept in memory" in caplog.records[1].message
    assert not list(dataset.glob("*.tmp"))
