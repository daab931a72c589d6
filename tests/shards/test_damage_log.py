"""The list of damaged records: each once, over restarts, and a limit."""

import numpy as np
import pytest

from aia_jax.errors import DataError
from aia_jax.shards.damage_log import DamageLog, allowed_damaged
from aia_jax.shards.frames import find_damage
from aia_jax.shards.reader import ShardReader, open_split
from tests.helpers.tiny_data import make_dataset


def spoil(folder, reader: ShardReader, record: int, frame: int) -> None:
    row = int(reader.index.first_frame[record]) + frame
    shard = folder / reader.index.shard_and_number(record)[0]
    content = bytearray(shard.read_bytes())
    content[int(reader.index.frame_offset[row]) + 50] ^= 0x10
    shard.write_bytes(content)


@pytest.fixture
def reader(tmp_path) -> ShardReader:
    folder = make_dataset(tmp_path / "data", videos_per_class=4)  # 12 videos in 2 shards
    reader = open_split(folder, "train")
    spoil(folder, reader, 2, 3)
    spoil(folder, reader, 7, 0)
    return reader


def test_records_are_named_once(reader, tmp_path):
    log = DamageLog(tmp_path / "bad_records.txt", reader, max_fraction=0.5)
    assert not log.path.exists()
    assert log.add(np.array([[-1, 2], [2, -1]])) == 1
    assert log.add([7, 2]) == 1
    assert log.add([]) == log.add([-1]) == log.add([7]) == 0
    assert log.count == 2
    header, *lines = log.path.read_text().splitlines()
    assert header.startswith("#")
    assert lines == [
        "tiny-train.tfrecord-00000-of-00002\t2\ttrain_2\tits data does not match the checksum "
        "stored with it",
        "tiny-train.tfrecord-00001-of-00002\t1\ttrain_7\tits data does not match the checksum "
        "stored with it",
    ]


def test_a_restart_goes_on_with_the_list(reader, tmp_path):
    path = tmp_path / "bad_records.txt"
    DamageLog(path, reader, 0.5).add([2])
    again = DamageLog(path, reader, 0.5)
    assert again.count == 1
    assert again.add([2, 7]) == 1
    assert len(path.read_text().splitlines()) == 3


def test_a_line_cut_short_is_written_again(reader, tmp_path):
    path = tmp_path / "bad_records.txt"
    DamageLog(path, reader, 0.5).add([2, 7])
    text = path.read_text()
    path.write_text(text[: text.rindex("train_7") - 1])  # killed while it wrote
    again = DamageLog(path, reader, 0.5)
    assert again.count == 1
    assert again.add([7]) == 1
    assert path.read_text().endswith(text[text.rindex("\ntiny") :])


def test_splits_share_a_file_and_count_their_own(reader, tmp_path):
    path = tmp_path / "bad_records.txt"
    DamageLog(path, reader, 0.5).add([2])
    validation = DamageLog(path, open_split(tmp_path / "data", "validation"), 0.5)
    assert validation.count == 0
    assert validation.add([2]) == 1
    assert "validation_2\tit could be read when it was looked at again" in path.read_text()
    assert DamageLog(path, reader, 0.5).count == 1


def test_more_than_the_share_stops_the_run(reader, tmp_path):
    path = tmp_path / "bad_records.txt"
    log = DamageLog(path, reader, max_fraction=0.1)  # 1 of 12
    log.add([2])
    with pytest.raises(DataError) as raised:
        log.add([7])
    message = str(raised.value)
    assert "1 of 12 allowed (data.damaged_share=0.1), found 2" in message
    assert str(path) in message
    assert "raise data.damaged_share if you mean it" in message
    assert len(path.read_text().splitlines()) == 3
    with pytest.raises(DataError):  # and again after a restart
        DamageLog(path, reader, max_fraction=0.1).add([2])
    DamageLog(path, reader, max_fraction=2 / 12).add([2])


def test_no_damage_allowed(reader, tmp_path):
    log = DamageLog(tmp_path / "bad_records.txt", reader, max_fraction=0.0)
    log.add([-1])
    with pytest.raises(DataError, match=r"0 of 12 allowed .*, found 1"):
        log.add([2])


@pytest.mark.parametrize(
    ("records", "share", "allowed"),
    [
        (9, 0.001, 0),
        (18, 0.001, 1),
        (200, 0.001, 3),
        (3_999, 0.001, 3),
        (4_000, 0.001, 4),
        (168_913, 0.001, 168),
        (100, 0.29, 29),  # 0.29 · 100 is below 29 in floats
        (200, 0.0, 0),
    ],
)
def test_a_small_split_may_have_a_few_and_none_where_the_share_is_0(records, share, allowed):
    assert allowed_damaged(records, share) == allowed


def test_what_is_wrong_is_found(reader):
    assert find_damage(reader, 0) == ""
    assert "checksum" in find_damage(reader, 7)


def test_known_damage_counts_before_any_record_is_used(reader, tmp_path):
    path = tmp_path / "bad_records.txt"
    DamageLog(path, reader, 1.0).add([2, 7])
    with pytest.raises(DataError, match="found 2"):
        DamageLog(path, reader, 0.0).check_known()
    DamageLog(path, reader, 1.0).check_known()
    # Mended since: the list is of no account.
    whole = open_split(make_dataset(tmp_path / "whole", videos_per_class=4), "train")
    DamageLog(path, whole, 0.0).check_known()
    # The index knows damage that no run has met yet.
    folder = tmp_path / "data"
    for index in folder.glob("*.index"):
        index.unlink()
    scanned = open_split(folder, "train")
    assert scanned.index.damaged.sum() == 2
    with pytest.raises(DataError, match="found 2"):
        DamageLog(tmp_path / "new.txt", scanned, 0.0).check_known()
    assert "train_7" in (tmp_path / "new.txt").read_text()
