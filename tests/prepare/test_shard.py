"""Which videos go into which shard, and how one is written."""

import json
import os
import tracemalloc
from collections import Counter
from pathlib import Path

import pytest

from aia_jax.prepare.raw_dataset import RawVideo
from aia_jax.prepare.shard import ShardJob, ShardNotes, assign_to_shards, write_shard
from aia_jax.shards.example import encode_example
from aia_jax.shards.index_builder import ShardIndexBuilder
from aia_jax.shards.tfrecord import scan_records
from aia_jax.video import decode, frame_spool
from aia_jax.video.frame_size import FrameFormat, FrameSize
from aia_jax.video.segment import Segment
from tests.helpers.raw_videos import numbered_frames, write_frames, write_video

SMALL = FrameSize(height=24, width=32)


def job(out: Path, *videos: RawVideo) -> ShardJob:
    return ShardJob(out / "shard", out / "notes.json", videos, FrameFormat(SMALL))


def raw_video(source: Path, segment: Segment | None = None, **fields) -> RawVideo:
    return RawVideo(source.name, source, {"label": 1}, "train", segment=segment, **fields)


def test_shards_mix_the_classes_and_are_even():
    videos = [
        RawVideo(f"{name}/{number}.mp4", Path(name), {"label": label}, "train")
        for label, name in enumerate("abcd")
        for number in range(60)
    ]
    assert [len(shard) for shard in assign_to_shards(videos, 50)] == [48] * 5
    assert [len(shard) for shard in assign_to_shards(videos)] == [16] * 15
    assert [len(shard) for shard in assign_to_shards(videos[:7])] == [7]
    assert max(len(shard) for shard in assign_to_shards(videos * 50)) <= 256
    shards = assign_to_shards(videos, 50)
    assert sorted(video.video_id for shard in shards for video in shard) == sorted(
        video.video_id for video in videos
    )
    assert all({video.labels["label"] for video in shard} == {0, 1, 2, 3} for shard in shards)
    assert shards == assign_to_shards(videos[::-1], 50)


@pytest.mark.parametrize("in_memory", [1 << 26, 2000])
def test_a_record_is_written_from_memory_or_from_a_file(tmp_path, monkeypatch, in_memory):
    monkeypatch.setattr(frame_spool, "_IN_MEMORY", in_memory)
    sources = [
        write_video(tmp_path / "a.mp4", numbered_frames(20, 48, 64), fps=10),
        write_frames(tmp_path / "b", numbered_frames(3, 48, 64)),
    ]
    task = job(tmp_path, *map(raw_video, sources))
    assert write_shard(task).records == 2
    for record, source in zip(scan_records(task.path), sources, strict=True):
        video = decode.decode(source, SMALL, 90)
        assert record.intact and record.data == encode_example(
            video.frames, {"label": 1}, source.name, video.fps, 24, 32
        )
    index, scanned = task.index.read_bytes(), ShardIndexBuilder.scan(task.path)
    task.index.unlink()
    write_shard(task)  # finds the shard finished, and builds the index from its records
    assert task.index.read_bytes() == index and not scanned.damage
    assert {path.name for path in tmp_path.iterdir()} == {
        "a.mp4", "b", "shard", "notes.json", "notes.index"
    }  # fmt: skip


def test_a_long_video_takes_no_more_memory_than_a_short_one(tmp_path, monkeypatch):
    monkeypatch.setattr(frame_spool, "_IN_MEMORY", 100_000)
    jpeg = os.urandom(50_000)
    monkeypatch.setattr(decode, "encode_frame", lambda *_: jpeg[:])
    source = write_video(tmp_path / "a.avi", numbered_frames(400, 16, 16))
    task = job(tmp_path, raw_video(source))
    tracemalloc.start()
    write_shard(task)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert task.path.stat().st_size > 20_000_000
    assert peak < 2_000_000


def test_what_one_video_causes_is_its_line_and_the_others_go_on(tmp_path, monkeypatch):
    good = write_video(tmp_path / "good.mp4", numbered_frames(20, 48, 64), fps=10)
    frames = write_frames(tmp_path / "frames", numbered_frames(5, 24, 32))
    (tmp_path / "loop.mp4").symlink_to("loop.mp4")
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "folder.mp4").mkdir()
    bad = [
        raw_video(tmp_path / name)
        for name in ("loop.mp4", "pipe.mp4", "folder.mp4", "x" * 300, "x/" * 3000 + "y")
    ]
    bad += [
        raw_video(good, Segment(*span, "seconds"))
        for span in ((1e300, 2e300), (0.0, float("nan")), (float("-inf"), -1.0), (5.0, 1.0))
    ]
    bad += [
        raw_video(frames, Segment(first, first + 1, unit))
        for first in (1 << 31, 1 << 64, 10**400)
        for unit in ("numbers", "positions")
    ]
    notes = write_shard(job(tmp_path, *bad, raw_video(good)))
    assert notes.records == 1
    assert len(notes.bad) == len(bad)
    assert all(reason and "\n" not in reason + source for source, reason in notes.bad)

    def exhaust(*_) -> None:
        raise MemoryError

    monkeypatch.setattr(decode, "encode_frame", exhaust)
    (tmp_path / "notes.json").unlink()
    notes = write_shard(job(tmp_path, raw_video(good), raw_video(frames)))
    assert (notes.records, notes.bad) == (
        1,
        [(str(good), "reading it takes more memory than there is")],
    )


def test_files_without_a_length_are_counted(tmp_path):
    sources = [
        write_video(tmp_path / name, numbered_frames(9, 48, 64)) for name in ("a.ts", "b.mp4")
    ]
    task = job(tmp_path, *map(raw_video, sources))
    assert write_shard(task).end_unchecked == 1
    notes = json.loads(task.notes.read_bytes())
    del notes["end_unchecked"]  # as an older version wrote them
    task.notes.write_text(json.dumps(notes))
    assert write_shard(task) == ShardNotes(2, [], Counter(h264=2), {})


def test_a_raw_folder_that_is_gone_ends_the_preparation(tmp_path):
    with pytest.raises(FileNotFoundError, match="the raw data are gone"):
        write_shard(job(tmp_path, raw_video(tmp_path / "unmounted" / "a.mp4")))
