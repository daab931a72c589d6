"""Reading single frames: the bytes that are fetched, threads and processes, damaged frames."""

import gc
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from aia_jax.errors import DataError
from aia_jax.shards import reader as tfrecord
from aia_jax.shards.example import encode_example
from aia_jax.shards.index import Index
from aia_jax.shards.reader import DamagedRecord, ShardReader, open_split
from tests.helpers.paths import ROOT
from tests.helpers.tiny_data import make_dataset
from tests.helpers.tiny_shards import flip_byte, shard, write_shard


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Nine videos of ten frames in each split, in two shards of five and four."""
    return make_dataset(tmp_path / "set")


def open_shards(folder: Path) -> int:
    """The number of files of the folder's shards that this process has open."""
    links = [str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    return sum(link.startswith(str(folder)) and ".tfrecord-" in link for link in links)


def test_a_clip_reads_only_the_bytes_of_its_frames(tmp_path):
    pictures = [os.urandom(1000 + n) for n in range(300)]
    path = write_shard(
        tmp_path / "shard", [encode_example(pictures, {"label": 1}, "long", 30.0, 24, 32)] * 2
    )
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
        assert whole == encode_example(
            reader.read_frames(record, range(10)),
            {"label": record % 3},
            f"validation_{record}",
            12.0,
            24,
            32,
        )


def test_records_are_described_by_shard_number_and_video(dataset):
    reader = open_split(dataset, "train")
    assert reader.describe(6) == "shard tiny-train.tfrecord-00001-of-00002, record 1, video train_6"


@pytest.mark.parametrize(("record", "frames"), [(0, [10]), (0, [-1]), (9, [0]), (-1, [0])])
def test_frames_that_do_not_exist_are_an_error(dataset, record, frames):
    with pytest.raises(IndexError):
        open_split(dataset, "train").read_frames(record, frames)


def test_threads_share_a_reader(dataset):
    reader = open_split(dataset, "train")
    expected = [
        open_split(dataset, "train").read_frames(record, [record, 0]) for record in range(9)
    ]
    wrong = []

    def work():
        wrong.extend(
            record
            for record in range(9)
            if reader.read_frames(record, [record, 0]) != expected[record]
        )

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
from aia_jax.shards.reader import open_split
reader = open_split({str(dataset)!r}, "train")
expected = [reader.read_frames(record, [0, 5]) for record in range(9)]
with multiprocessing.get_context("fork").Pool(2) as pool:
    found = pool.starmap(reader.read_frames, [(record, [0, 5]) for record in range(9)])
assert found == expected
"""
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


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
    assert (error.shard, error.record, error.video_id) == (
        "tiny-train.tfrecord-00001-of-00002",
        1,
        "train_6",
    )
    assert (
        str(error)
        == "shard tiny-train.tfrecord-00001-of-00002, record 1, video train_6: frame 4 does not "
        "match its checksum"
    )
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert len(reader.read_frames(6, [3, 5])) == 2
    with pytest.raises(DamagedRecord, match=r"does not match the checksum stored with it"):
        reader.read_record(6)


def test_a_shard_cut_while_it_is_read_is_damage(dataset):
    reader = open_split(dataset, "train")
    os.truncate(shard(dataset, 0), 100)
    with pytest.raises(
        DamagedRecord,
        match=r"record 1, video train_1: the shard is cut short: byte [0-9]+ is not there",
    ):
        reader.read_frames(1, [0])


def test_a_shard_deleted_while_it_is_read_stops_the_run(dataset):
    reader = open_split(dataset, "train")
    shard(dataset, 1).unlink()
    reader.read_frames(0, [0])
    with pytest.raises(
        DataError, match=r"tiny-train.tfrecord-00001-of-00002 cannot be opened \(No such file"
    ):
        reader.read_frames(8, [0])


def test_a_shard_that_cannot_be_read_is_damage(dataset):
    reader = open_split(dataset, "train")
    shard(dataset, 0).unlink()
    shard_folder = dataset / reader.index.shards[0].name
    shard_folder.mkdir()  # opens, but reading it fails
    with pytest.raises(DamagedRecord, match=r"cannot be read there \(Is a directory\)"):
        reader.read_frames(0, [0])
