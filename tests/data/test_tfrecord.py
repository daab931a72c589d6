"""Writing shards, reading single frames of them, and every way in which a shard can be damaged."""

import gc
import gzip
import logging
import multiprocessing
import os
import pickle
import signal
import struct
import subprocess
import sys
import threading
from pathlib import Path

import grain
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_data import make_dataset

from aia_jax.data import tfrecord
from aia_jax.data.example import encode_example
from aia_jax.data.framing import atomic_file, scan_records
from aia_jax.data.index import Index
from aia_jax.data.tfrecord import DamagedRecord, RecordWriter, ShardReader, open_split
from aia_jax.errors import DataError

REPOSITORY = Path(__file__).parents[2]


def crc32c_bit_by_bit(data: bytes) -> int:
    """CRC32C from its polynomial alone."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ 0x82F63B78 * (crc & 1)
    return crc ^ 0xFFFFFFFF


def masked(data: bytes) -> bytes:
    crc = crc32c_bit_by_bit(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17 & 0xFFFFFFFF) + 0xA282EAD8) & 0xFFFFFFFF)


def write_shard(path: Path, records: list[bytes]) -> Path:
    with RecordWriter(path) as writer:
        for record in records:
            writer.write(record)
    return path


def flip_byte(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 0x10
    path.write_bytes(content)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Nine videos of ten frames in each split, in two shards of five and four."""
    return make_dataset(tmp_path / "set")


def shard(folder: Path, number: int, split: str = "train") -> Path:
    return sorted(folder.glob(f"*-{split}.tfrecord-*"))[number]


def open_shards(folder: Path) -> int:
    """The number of files of the folder's shards that this process has open."""
    links = [str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    return sum(link.startswith(str(folder)) and ".tfrecord-" in link for link in links)


# --- the file format ---


def test_the_test_knows_crc32c():
    assert crc32c_bit_by_bit(b"123456789") == 0xE3069283  # the check value of CRC-32/ISCSI


def test_files_have_the_published_layout(tmp_path):
    records = [b"", b"a", bytes(range(256)) * 3]
    path = write_shard(tmp_path / "shard", records)
    expected = b""
    for record in records:
        length = struct.pack("<Q", len(record))
        expected += length + masked(length) + record + masked(record)
    assert path.read_bytes() == expected


def test_grain_reads_the_records(tmp_path):
    records = [os.urandom(n) for n in (1, 500, 70_000)]
    path = write_shard(tmp_path / "shard", records)
    assert list(grain.experimental.TFRecordIterDataset(str(path))) == records


def test_write_returns_where_the_data_begins(tmp_path):
    with RecordWriter(tmp_path / "shard") as writer:
        places = [writer.write(b"x" * n) for n in (3, 0, 9)]
        size = writer.size
    content = (tmp_path / "shard").read_bytes()
    assert [content[place : place + n] for place, n in zip(places, (3, 0, 9), strict=True)] == [b"xxx", b"", b"x" * 9]
    assert size == len(content)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=300), max_size=6))
def test_a_scan_gives_back_what_was_written(tmp_path, records):
    assert [(record.data, record.intact) for record in scan_records(write_shard(tmp_path / "shard", records))] == [
        (r, True) for r in records
    ]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200))
def test_a_scan_of_anything_ends_in_a_clear_error(tmp_path, content):
    path = tmp_path / "shard"
    path.write_bytes(content)
    if content:
        with pytest.raises(DataError, match=r"record 0 at byte 0"):
            list(scan_records(path))
    else:
        assert list(scan_records(path)) == []


def test_an_exception_leaves_the_old_file_and_nothing_else(tmp_path):
    path = write_shard(tmp_path / "shard", [b"old"])
    with pytest.raises(RuntimeError), RecordWriter(path) as writer:
        writer.write(b"new")
        raise RuntimeError
    assert [record.data for record in scan_records(path)] == [b"old"]
    assert [file.name for file in tmp_path.iterdir()] == ["shard"]


def test_a_kill_leaves_the_old_file_and_the_next_run_cleans_up(tmp_path):
    path = write_shard(tmp_path / "shard", [b"old"])
    program = f"""
import os, signal
from aia_jax.data.framing import RecordWriter
with RecordWriter({str(path)!r}) as writer:
    writer.write(b"x" * 1_000_000)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY).returncode == -signal.SIGKILL
    assert [record.data for record in scan_records(path)] == [b"old"]
    write_shard(path, [b"new"])
    assert [file.name for file in tmp_path.iterdir()] == ["shard"]


def test_files_get_the_usual_permissions(tmp_path):
    with atomic_file(tmp_path / "file"):
        pass
    (tmp_path / "plain").touch()
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "plain").stat().st_mode


# --- random access ---


def test_a_clip_reads_only_the_bytes_of_its_frames(tmp_path):
    pictures = [os.urandom(1000 + n) for n in range(300)]
    path = write_shard(tmp_path / "shard", [encode_example(pictures, {"label": 1}, "long", 30.0, 24, 32)] * 2)
    reader = ShardReader([path], Index.build([path]))
    chosen = [3, 299, 41, 78, 0, 115, 152, 190]
    assert reader.read_frames(1, chosen) == [pictures[n] for n in chosen]
    assert reader.bytes_read == sum(1000 + n for n in chosen)


def test_a_frame_that_is_asked_for_twice_is_read_once(dataset):
    reader = open_split(dataset, "train")
    a, b, c = reader.read_frames(4, [2, 7, 2])
    assert a == c != b
    assert reader.bytes_read == len(a) + len(b)
    assert reader.read_frames(np.int64(4), np.array([2, 7, 2])) == [a, b, c]


def test_frames_and_records_agree(dataset):
    reader = open_split(dataset, "validation")
    assert len(reader) == 9
    for record in (8, 0, 4, 5):
        whole = reader.read_record(record)
        assert whole == encode_example(reader.read_frames(record, range(10)), {"label": record % 3}, f"validation_{record}", 12.0, 24, 32)


def test_records_are_described_by_shard_number_and_video(dataset):
    reader = open_split(dataset, "train")
    assert reader.describe(6) == "shard tiny-train.tfrecord-00001-of-00002, record 1, video train_6"


@pytest.mark.parametrize(("record", "frames"), [(0, [10]), (0, [-1]), (9, [0]), (-1, [0])])
def test_frames_that_do_not_exist_are_an_error(dataset, record, frames):
    with pytest.raises(IndexError):
        open_split(dataset, "train").read_frames(record, frames)


def test_threads_share_a_reader(dataset):
    reader = open_split(dataset, "train")
    expected = [open_split(dataset, "train").read_frames(record, [record, 0]) for record in range(9)]
    wrong = []

    def work():
        wrong.extend(record for record in range(9) if reader.read_frames(record, [record, 0]) != expected[record])

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    one = sum(len(picture) for pictures in expected for picture in set(pictures))
    assert reader.bytes_read == 8 * one


def test_a_copy_in_a_spawned_process_reads_and_reports(dataset):
    reader = open_split(dataset, "train")
    reader.read_frames(0, [0])
    expected = reader.read_frames(5, [1, 2])
    flip_byte(shard(dataset, 0), int(reader.index.frame_offset[3]))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(reader.read_frames, (5, [1, 2])) == expected
        with pytest.raises(DamagedRecord) as damaged:
            pool.apply(reader.read_frames, (0, [3]))
    assert damaged.value.video_id == "train_0"


def test_a_forked_process_reads(dataset):
    program = f"""
import multiprocessing
from aia_jax.data.tfrecord import open_split
reader = open_split({str(dataset)!r}, "train")
expected = [reader.read_frames(record, [0, 5]) for record in range(9)]
with multiprocessing.get_context("fork").Pool(2) as pool:
    found = pool.starmap(reader.read_frames, [(record, [0, 5]) for record in range(9)])
assert found == expected
"""
    subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, check=True)


def test_the_number_of_open_files_is_bounded_and_they_are_closed(tmp_path, monkeypatch):
    monkeypatch.setattr(tfrecord, "_MAX_OPEN", 2)
    reader = open_split(make_dataset(tmp_path, shards=6), "train")
    assert open_shards(tmp_path) == 0
    assert len({picture for record in range(9) for picture in reader.read_frames(record, [0])}) == 9
    assert open_shards(tmp_path) == 2
    del reader
    gc.collect()
    assert open_shards(tmp_path) == 0


# --- damage found while reading ---


def test_a_flipped_byte_names_the_record_and_spares_the_others(dataset):
    reader = open_split(dataset, "train")
    row = int(reader.index.first_frame[6]) + 4
    flip_byte(shard(dataset, 1), int(reader.index.frame_offset[row]) + 100)
    with pytest.raises(DamagedRecord) as damaged:
        reader.read_frames(6, [3, 4])
    error = damaged.value
    assert (error.shard, error.record, error.video_id) == ("tiny-train.tfrecord-00001-of-00002", 1, "train_6")
    assert str(error) == "shard tiny-train.tfrecord-00001-of-00002, record 1, video train_6: frame 4 does not match its checksum"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert len(reader.read_frames(6, [3, 5])) == 2
    with pytest.raises(DamagedRecord, match=r"does not match the checksum stored with it"):
        reader.read_record(6)


def test_a_shard_cut_while_it_is_read_is_damage(dataset):
    reader = open_split(dataset, "train")
    os.truncate(shard(dataset, 0), 100)
    with pytest.raises(DamagedRecord, match=r"record 1, video train_1: the shard is cut short: byte [0-9]+ is not there"):
        reader.read_frames(1, [0])


def test_a_shard_deleted_while_it_is_read_stops_the_run(dataset):
    reader = open_split(dataset, "train")
    shard(dataset, 1).unlink()
    reader.read_frames(0, [0])
    with pytest.raises(DataError, match=r"tiny-train.tfrecord-00001-of-00002 cannot be opened \(No such file"):
        reader.read_frames(8, [0])


def test_a_shard_that_cannot_be_read_is_damage(dataset):
    reader = open_split(dataset, "train")
    shard(dataset, 0).unlink()
    shard_folder = dataset / reader.index.shards[0].name
    shard_folder.mkdir()  # opens, but reading it fails
    with pytest.raises(DamagedRecord, match=r"cannot be read there \(Is a directory\)"):
        reader.read_frames(0, [0])


# --- damage found when a split is opened ---


def test_a_split_that_does_not_exist(dataset):
    with pytest.raises(DataError, match=r"no split 'test'; it has train \(9 videos\), validation \(9 videos\)"):
        open_split(dataset, "test")


def test_a_missing_shard_is_named(dataset):
    shard(dataset, 1).unlink()
    with pytest.raises(DataError, match=r"1 of 2 shards are missing \(tiny-train.tfrecord-00001-of-00002\); copy"):
        open_split(dataset, "train")


@pytest.mark.parametrize("with_index", [True, False])
@pytest.mark.parametrize("cut", [1, 4, 5000, 16_200])
def test_a_shard_cut_inside_a_record(dataset, cut, with_index):
    path = shard(dataset, 0)
    os.truncate(path, path.stat().st_size - cut)
    kept = (dataset / "train.index").read_bytes()
    if not with_index:
        (dataset / "train.index").unlink()
    with pytest.raises(DataError, match=r"00000-of-00002: record \d at byte \d+ is cut short: .*; \d whole records .* prepare") as error:
        open_split(dataset, "train")
    assert "\n" not in str(error.value)
    if with_index:
        assert (dataset / "train.index").read_bytes() == kept


def test_a_shard_cut_inside_a_length(dataset):
    path = shard(dataset, 0)
    *_, last = scan_records(path)
    os.truncate(path, last.offset - 5)
    with pytest.raises(DataError, match=rf"record 4 at byte {last.offset - 12} is cut short inside its length; 4 whole records"):
        open_split(dataset, "train")


@pytest.mark.parametrize("with_index", [True, False])
def test_a_shard_cut_between_records(dataset, with_index):
    path = shard(dataset, 0)
    *_, last = scan_records(path)
    os.truncate(path, last.offset - 12)
    kept = (dataset / "train.index").read_bytes()
    if not with_index:
        (dataset / "train.index").unlink()
    with pytest.raises(DataError, match=r"00000-of-00002 holds 4 records, dataset_info.json says 5: it was cut short; copy"):
        open_split(dataset, "train")
    if with_index:
        assert (dataset / "train.index").read_bytes() == kept


def test_an_emptied_shard(dataset):
    os.truncate(shard(dataset, 1), 0)
    with pytest.raises(DataError, match=r"00001-of-00002 holds 0 records, dataset_info.json says 4"):
        open_split(dataset, "train")


def test_a_shard_of_another_preparation(dataset):
    write_shard(shard(dataset, 1), [record.data for record in scan_records(shard(dataset, 0))])
    with pytest.raises(DataError, match=r"holds 5 records, dataset_info.json says 4: it belongs to another preparation"):
        open_split(dataset, "train")


@pytest.mark.parametrize("number", [0, 7, 8, 11])
def test_a_flipped_byte_in_a_length(dataset, number):
    records = list(scan_records(shard(dataset, 0)))
    flip_byte(shard(dataset, 0), records[2].offset - 12 + number)
    with pytest.raises(DataError, match=rf"record 2 at byte {records[2].offset - 12} has a length that does not match .*; 2 whole records"):
        open_split(dataset, "train")


@pytest.mark.parametrize("place", [0, 500, -1, -5])
def test_a_flipped_byte_in_the_data_makes_one_damaged_row(dataset, place):
    records = list(scan_records(shard(dataset, 0)))
    flip_byte(shard(dataset, 0), records[2].offset + (place if place >= 0 else len(records[2].data) + 4 + place))
    reader = open_split(dataset, "train")
    assert reader.index.damaged.tolist() == [False, False, True, *[False] * 6]
    assert reader.index.num_frames.tolist() == [10, 10, 0, *[10] * 6]
    assert reader.index.labels["label"].tolist() == [0, 1, -1, 0, 1, 2, 0, 1, 2]
    with pytest.raises(DamagedRecord, match=r"record 2, video (train_2)?: its data does not match the checksum stored with it"):
        reader.read_frames(2, [0])
    assert len(reader.read_frames(3, [0, 9])) == 2


def test_records_that_are_no_videos_are_damaged_rows(dataset):
    good = [record.data for record in scan_records(shard(dataset, 0))]
    write_shard(shard(dataset, 0), [good[0], b"\x0a\x05ab", b"", encode_example([], {"label": 1}, "none", 1.0, 2, 2), good[4]])
    reader = open_split(dataset, "train")
    assert reader.index.damaged.tolist() == [False, True, True, True, False, *[False] * 4]
    with pytest.raises(DamagedRecord, match=r"not a record of a video: the field at byte 0 announces 5 bytes"):
        reader.read_frames(1, [0])
    with pytest.raises(DamagedRecord, match=r"no feature 'frames' among \[\]"):
        reader.read_frames(2, [0])
    with pytest.raises(DamagedRecord, match=r"video none: .* 'frames' holds no pictures"):
        reader.read_frames(3, [0])


def test_a_split_without_a_single_video_is_an_error(dataset):
    for number, count in enumerate((5, 4)):
        write_shard(shard(dataset, number), [b""] * count)
    with pytest.raises(DataError, match=r"none of the 9 records can be used; the first: shard .*: no feature 'frames'"):
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
    kept = (folder / "train.index").read_bytes()
    (folder / "train.index").unlink()
    with caplog.at_level(logging.WARNING):
        open_split(folder, "train")
        assert [record.message.split(";")[0] for record in caplog.records] == [f"index {folder / 'train.index'}: there is none"]
        open_split(folder, "train")
    assert len(caplog.records) == 1
    assert (folder / "train.index").read_bytes() == kept


@pytest.mark.parametrize("place", [0, 9, 30, 0.5, -5, -1])
def test_a_flipped_byte_in_the_index_is_noticed(dataset, caplog, place):
    path = dataset / "train.index"
    kept = path.read_bytes()
    flip_byte(path, int(len(kept) * place) if isinstance(place, float) else place)
    reader = open_split(dataset, "train")
    assert [len(reader), path.read_bytes()] == [9, kept]
    assert [record.message.split(";")[0] for record in caplog.records] == [f"index {path}: it does not match its checksum"]


@pytest.mark.parametrize("size", [0, 3, 8, 100])
def test_a_cut_index_is_noticed(dataset, caplog, size):
    path = dataset / "train.index"
    kept = path.read_bytes()
    os.truncate(path, size)
    open_split(dataset, "train")
    assert path.read_bytes() == kept
    assert len(caplog.records) == 1


def test_an_index_of_other_shards_is_made_again(dataset, tmp_path, caplog):
    other = make_dataset(tmp_path / "other", seed=1)
    kept = (dataset / "train.index").read_bytes()
    (dataset / "train.index").write_bytes((other / "train.index").read_bytes())
    open_split(dataset, "train")
    assert (dataset / "train.index").read_bytes() == kept
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
    assert [record.message.split("(")[-1].split(")")[0] for record in caplog.records] == ["0.00 GB", "Is a directory"]
    assert "kept in memory" in caplog.records[1].message
    assert not list(dataset.glob("*.tmp"))
