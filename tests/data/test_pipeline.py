"""The loader: rows do not depend on who makes them, and every damaged record is reported."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import simplejpeg

from aia_jax.data.augment import TrainTransform
from aia_jax.data.pipeline import MAX_DAMAGED_IN_ROW, eval_batches, train_batches
from aia_jax.data.plan import BatchPlan
from aia_jax.data.sampling import frame_indices
from aia_jax.data.views import Views
from aia_jax.errors import UserError
from aia_jax.shards.reader import ShardReader, open_split
from tests.helpers.paths import ROOT
from tests.helpers.tiny_data import make_dataset
from tests.helpers.tiny_pipeline import (
    CLASSES,
    TRANSFORM,
    assert_same,
    good_videos,
    take,
    write_videos,
)


@pytest.fixture(scope="module")
def reader(tmp_path_factory) -> ShardReader:
    folder = make_dataset(
        tmp_path_factory.mktemp("data"), videos_per_class=5, classes=CLASSES, frames=[10, 3, 30]
    )
    return open_split(folder, "train")


def join_hosts(blocks: list[list[dict]]) -> list[dict]:
    return [
        {key: np.concatenate([block[key] for block in step]) for key in step[0]}
        for step in zip(*blocks, strict=True)
    ]


# Training


def test_batch_contents(reader):
    plan = BatchPlan(len(reader), 6, seed=0)
    for step, batch in enumerate(take(train_batches(reader, plan, TRANSFORM, start_step=0), 4)):
        assert batch["clips"].shape == (6, 4, 20, 20, 3)
        assert batch["clips"].dtype == np.uint8
        assert batch["labels"].dtype == np.int32
        np.testing.assert_array_equal(batch["records"], plan.records(step))
        np.testing.assert_array_equal(batch["damaged"], np.full((6, MAX_DAMAGED_IN_ROW), -1))
        stored = reader.index.labels["label"][batch["records"]]
        assert all(
            label in (own, TRANSFORM.partner[own])
            for label, own in zip(batch["labels"], stored, strict=True)
        )


def test_a_flipped_row_has_the_other_label(reader):
    plan = BatchPlan(len(reader), 6, seed=0)
    never, always = (
        take(train_batches(reader, plan, replace(TRANSFORM, flip=flip), start_step=0), 3)
        for flip in (0.0, 1.0)
    )
    for plain, flipped in zip(never, always, strict=True):
        np.testing.assert_array_equal(flipped["labels"], TRANSFORM.partner[plain["labels"]])
        np.testing.assert_allclose(
            flipped["clips"][:, :, :, ::-1].astype(int), plain["clips"], atol=1
        )


def test_a_restart_goes_on_with_the_same_rows(reader):
    plan = BatchPlan(len(reader), 4, seed=3)
    whole = take(train_batches(reader, plan, TRANSFORM, start_step=0), 8)  # epochs have 3 steps
    for start in (1, 3, 5):
        assert_same(
            take(train_batches(reader, plan, TRANSFORM, start_step=start, threads=1), 8 - start),
            whole[start:],
        )


def test_hosts_hold_contiguous_blocks_of_the_same_batches(reader):
    plan = BatchPlan(len(reader), 6, seed=0)
    whole = take(train_batches(reader, plan, TRANSFORM, start_step=2), 4)
    for hosts in (2, 3):
        blocks = [
            take(
                train_batches(
                    reader, plan, TRANSFORM, start_step=2, host_index=k, host_count=hosts
                ),
                4,
            )
            for k in range(hosts)
        ]
        assert_same(join_hosts(blocks), whole)


@pytest.mark.parametrize("prefetch", [0, 1, 3])
def test_threads_and_waiting_batches_change_nothing(reader, prefetch):
    plan = BatchPlan(len(reader), 6, seed=0)
    one_thread = take(
        train_batches(reader, plan, TRANSFORM, start_step=0, threads=1, prefetch=0), 4
    )
    assert_same(
        take(train_batches(reader, plan, TRANSFORM, start_step=0, threads=3, prefetch=prefetch), 4),
        one_thread,
    )


def test_worker_processes_change_nothing(reader):
    plan = BatchPlan(len(reader), 6, seed=0)
    expected = take(train_batches(reader, plan, TRANSFORM, start_step=1), 9)
    assert_same(
        take(train_batches(reader, plan, TRANSFORM, start_step=1, workers=1, prefetch=1), 9),
        expected,
    )
    second_host = [{key: value[3:] for key, value in batch.items()} for batch in expected]
    assert_same(
        take(
            train_batches(
                reader, plan, TRANSFORM, start_step=1, workers=2, host_index=1, host_count=2
            ),
            9,
        ),
        second_host,
    )
    assert not multiprocessing.active_children()


def test_videos_with_fewer_frames_than_the_clip_repeat_frames(tmp_path):
    reader = write_videos(tmp_path, good_videos(4, frames=3))
    transform = TrainTransform(
        num_frames=8, size=24, partner=np.arange(3), resize=None, scales=(1.0,), flip=0.0
    )
    (batch,) = take(train_batches(reader, BatchPlan(4, 4, seed=0), transform, start_step=0), 1)
    shown = frame_indices(3, 8, "center")[0]
    for clip in batch["clips"]:
        for i, j in np.ndindex(8, 8):
            assert (clip[i] == clip[j]).all() == (shown[i] == shown[j])


def test_only_the_chosen_frames_are_read(tmp_path):
    reader = write_videos(tmp_path, good_videos(2, frames=300))
    take(train_batches(reader, BatchPlan(2, 2, seed=0), TRANSFORM, start_step=0, prefetch=0), 1)
    longest = int(reader.index.frame_length.max())
    assert 0 < reader.bytes_read <= 2 * 4 * longest


# Evaluation


def test_every_video_once(reader):
    batches = take(eval_batches(reader, 4, 4, 20, resize=None))
    assert len(batches) == 4
    records = np.concatenate([batch["records"] for batch in batches])
    weights = np.concatenate([batch["weights"] for batch in batches])
    labels = np.concatenate([batch["labels"] for batch in batches])
    assert records.tolist() == [*range(15), -1]
    assert weights.tolist() == [1.0] * 15 + [0.0]
    np.testing.assert_array_equal(labels[:15], reader.index.labels["label"])
    assert not batches[-1]["clips"][-1].any()


def test_evaluation_shows_the_centre_of_the_right_frames(reader):
    (batch,) = take(eval_batches(reader, 15, 4, 20, resize=None))
    for record in (0, 1, 2):
        shown = frame_indices(int(reader.index.num_frames[record]), 4, "center")[0]
        frames = [
            simplejpeg.decode_jpeg(jpeg)[2:22, 6:26]
            for jpeg in reader.read_frames(record, shown.tolist())
        ]
        np.testing.assert_array_equal(batch["clips"][record], frames)


@pytest.mark.parametrize(
    ("protocol", "clips", "sampling"),
    [("twice", 2, "reference"), ("dense10", 10, "reference"), ("dense10", 10, "uniform")],
)
def test_several_clips_of_a_video(reader, protocol, clips, sampling):
    of_protocol = Views.from_protocol(protocol)
    batch = take(eval_batches(reader, 15, 4, 20, of_protocol, resize=None, sampling=sampling))[0]
    assert batch["clips"].shape == (15, clips, 4, 20, 20, 3)
    shown = frame_indices(30, 4, protocol, sampling=sampling)
    frames = np.stack(
        [simplejpeg.decode_jpeg(jpeg)[2:22, 6:26] for jpeg in reader.read_frames(2, range(30))]
    )
    np.testing.assert_array_equal(batch["clips"][2], frames[shown])


def test_hosts_share_an_evaluation_evenly(reader):
    whole = take(eval_batches(reader, 6, 4, 20, resize=None))
    blocks = [
        take(eval_batches(reader, 6, 4, 20, resize=None, host_index=k, host_count=3))
        for k in range(3)
    ]
    assert [len(block) for block in blocks] == [3, 3, 3]
    assert_same(join_hosts(blocks), whole)


def test_frames_smaller_than_the_crop_have_black_borders(reader):
    (batch,) = take(eval_batches(reader, 15, 4, 60, resize=None))
    assert batch["clips"].shape[2:4] == (60, 60)
    assert batch["weights"].all()
    assert not batch["clips"][..., 0, :, :].any() and batch["clips"][..., 30, 30, :].any()


# Damage


# What is asked for


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"host_index": 0, "host_count": 4}, "a batch of 6 does not split evenly over 4 hosts"),
        ({"host_index": 2, "host_count": 2}, "host 2 of 2: it must be 0 to 1"),
        ({"label": "verb"}, "no label 'verb'; it has label: set data.label"),
        ({"workers": 2, "prefetch": 0}, "workers need prefetch of 1 or more"),
        ({"workers": -1}, "data.workers=-1"),
    ],
)
def test_wrong_arguments_are_refused_at_once(reader, arguments, message):
    with pytest.raises(UserError, match=message):
        train_batches(
            reader, BatchPlan(len(reader), 6, seed=0), TRANSFORM, start_step=0, **arguments
        )
    with pytest.raises(UserError, match=message):
        eval_batches(reader, 6, 4, 20, **arguments)


_TRAINS_UNTIL_KILLED = """
import multiprocessing, sys, time
from tests.data.test_pipeline import *
if __name__ == "__main__":
    reader = open_split(sys.argv[1], "train")
    plan = BatchPlan(len(reader), 6, seed=0)
    batches = train_batches(reader, plan, TRANSFORM, start_step=0, workers=2)
    next(batches), next(batches)
    print(*(child.pid for child in multiprocessing.active_children()), flush=True)
    time.sleep(300)
"""


def test_workers_leave_signals_to_the_main_process_and_die_with_it(tmp_path):
    make_dataset(tmp_path, videos_per_class=5, classes=CLASSES)
    script = tmp_path / "trains.py"
    script.write_text(_TRAINS_UNTIL_KILLED)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    with subprocess.Popen(
        [sys.executable, str(script), str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        workers = [int(pid) for pid in process.stdout.readline().split()]
        try:
            assert len(workers) == 2
            for pid in workers:
                os.kill(pid, signal.SIGINT)
                os.kill(pid, signal.SIGTERM)
            time.sleep(0.5)
            assert all(alive(pid) for pid in workers)
        finally:
            process.kill()
    deadline = time.monotonic() + 60
    while any(alive(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(alive(pid) for pid in workers)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    # An orphan that nobody has reaped yet.
    return not (state.exists() and state.read_text().rpartition(")")[2].split()[0] == "Z")
