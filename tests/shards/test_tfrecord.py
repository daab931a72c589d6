"""The file format of shards: writing, scanning, and files that are whole or absent."""

import os
import signal
import struct
import subprocess
import sys

import grain
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aia_jax.errors import DataError
from aia_jax.shards.tfrecord import RecordWriter, scan_records
from tests.helpers.paths import ROOT
from tests.helpers.tiny_shards import write_shard


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
        offsets = [writer.write(b"x" * n) for n in (3, 0, 9)]
        size = writer.size
    content = (tmp_path / "shard").read_bytes()
    assert [content[offset : offset + n] for offset, n in zip(offsets, (3, 0, 9), strict=True)] == [
        b"xxx",
        b"",
        b"x" * 9,
    ]
    assert size == len(content)


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.binary(max_size=300), max_size=6))
def test_a_scan_gives_back_what_was_written(tmp_path, records):
    assert [
        (record.data, record.intact)
        for record in scan_records(write_shard(tmp_path / "shard", records))
    ] == [(r, True) for r in records]


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
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
from aia_jax.shards.tfrecord import RecordWriter
with RecordWriter({str(path)!r}) as writer:
    writer.write(b"x" * 1_000_000)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT).returncode == -signal.SIGKILL
    assert [record.data for record in scan_records(path)] == [b"old"]
    write_shard(path, [b"new"])
    assert [file.name for file in tmp_path.iterdir()] == ["shard"]
