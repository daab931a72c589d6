"""Damaged records: their rows go to others, they are named, and too many stop the run."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import simplejpeg

from aia_jax.data.pipeline import eval_batches, train_batches
from aia_jax.data.plan import BatchPlan
from aia_jax.errors import DataError
from aia_jax.shards.reader import ShardReader, open_split
from aia_jax.shards.tfds_metadata import shard_name
from tests.helpers.tiny_pipeline import TRANSFORM, assert_same, good_videos, take, write_videos


def flip_a_byte(reader: ShardReader, folder: Path, record: int, frame: int) -> None:
    row = int(reader.index.first_frame[record]) + frame
    shard = folder / reader.index.shards[reader.index.shard[record]].name
    content = bytearray(shard.read_bytes())
    content[int(reader.index.frame_offset[row]) + 100] ^= 0x10
    shard.write_bytes(content)


def spoil(kind: str, jpeg: bytes) -> bytes:
    rng = np.random.default_rng(0)
    return {
        "empty": b"",
        "truncated": jpeg[: len(jpeg) // 2],
        "noise inside": jpeg[:-300] + rng.bytes(200) + jpeg[-100:],
        "no picture": b"GIF89a" + bytes(100),
        "another size": simplejpeg.encode_jpeg(rng.integers(0, 256, (10, 10, 3), np.uint8)),
    }[kind]


@pytest.fixture(
    scope="module",
    params=["flipped byte", "empty", "truncated", "noise inside", "no picture", "another size"],
)
def damaged(request, tmp_path_factory) -> ShardReader:
    """Seven videos; every second frame of the fifth is damaged, so no clip of it is intact."""
    folder = tmp_path_factory.mktemp("damaged")
    videos = good_videos(7)
    if request.param != "flipped byte":
        videos[4][::2] = [spoil(request.param, jpeg) for jpeg in videos[4][::2]]
        return write_videos(folder, videos)
    reader = write_videos(folder, videos)
    for frame in range(0, 10, 2):
        flip_a_byte(reader, folder, 4, frame)
    return reader


def test_a_damaged_record_gives_its_row_to_another_and_is_named(damaged):
    transform = replace(TRANSFORM, num_frames=8)  # meets frames 0 to 7
    plan = BatchPlan(7, 7, seed=0)
    batches = take(train_batches(damaged, plan, transform, start_step=0), 6)
    for step, batch in enumerate(batches):
        row = plan.records(step).tolist().index(4)
        given_up = batch["damaged"][row]
        assert given_up[0] == 4
        assert set(given_up.tolist()) <= {4, -1}
        assert 4 not in batch["records"]
        assert (np.delete(batch["damaged"], row, axis=0) == -1).all()
        np.testing.assert_array_equal(
            np.delete(batch["records"], row), np.delete(plan.records(step), row)
        )
    assert (
        len(
            {
                batch["records"][plan.records(step).tolist().index(4)]
                for step, batch in enumerate(batches)
            }
        )
        > 1
    )
    assert_same(
        take(train_batches(damaged, plan, transform, start_step=2, threads=1), 4), batches[2:]
    )


def test_a_damaged_record_has_no_weight_in_evaluation(damaged):
    batches = take(eval_batches(damaged, 4, 8, 20, resize=None))
    assert np.concatenate([batch["weights"] for batch in batches]).tolist() == [
        1,
        1,
        1,
        1,
        0,
        1,
        1,
        0,
    ]
    assert np.concatenate([batch["records"] for batch in batches]).tolist() == [
        0,
        1,
        2,
        3,
        4,
        5,
        6,
        -1,
    ]
    assert [record for batch in batches for record in batch["damaged"].ravel() if record >= 0] == [
        4
    ]
    assert not batches[1]["clips"][0].any()


def test_workers_report_damage_and_reuse_no_old_pixels(tmp_path):
    videos = good_videos(11)
    videos[8] = [b""] * 10
    reader = write_videos(tmp_path, videos)
    assert_same(
        take(eval_batches(reader, 2, 4, 20, resize=None, workers=2, prefetch=1)),
        take(eval_batches(reader, 2, 4, 20, resize=None)),
    )


def test_a_record_that_the_index_knows_to_be_damaged(tmp_path):
    write_videos(tmp_path, good_videos(5))
    (tmp_path / "train.index").unlink()
    shard = tmp_path / shard_name("tiny", "train", 0, 1)
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    reader = open_split(tmp_path, "train")
    assert reader.index.damaged.tolist() == [False, False, True, False, False]
    (batch,) = take(train_batches(reader, BatchPlan(5, 5, seed=0), TRANSFORM, start_step=0), 1)
    assert set(batch["damaged"].ravel().tolist()) == {-1, 2}
    (batch,) = take(eval_batches(reader, 5, 4, 20, resize=None))
    assert batch["weights"].tolist() == [1, 1, 0, 1, 1]


def test_when_nothing_can_be_read_the_run_stops(tmp_path):
    reader = write_videos(tmp_path, [[b""] * 5] * 4)
    batches = train_batches(reader, BatchPlan(4, 2, seed=0), TRANSFORM, start_step=0)
    with pytest.raises(
        DataError,
        match=r"8 damaged records in succession at step 0, the last: shard .*frame \d is no intact "
        r"JPEG",
    ):
        next(batches)
