"""Clips of segments and of windows through the loader, beside a plain implementation."""

from dataclasses import replace

import numpy as np
import pytest
import simplejpeg

from aia_jax.data.pipeline import eval_batches, train_batches
from aia_jax.data.plan import BatchPlan, training_records
from aia_jax.data.sampling import frame_indices
from aia_jax.data.views import Views
from aia_jax.shards.reader import ShardReader, open_split
from tests.helpers.tiny_data import make_dataset
from tests.helpers.tiny_pipeline import CLASSES, TRANSFORM, assert_same, take

LENGTHS = [60, 11, 4, 21]
RULES = [("reference", 5), ("uniform", 5), ("dense3", 5), ("dense9", 1), ("shared", 1)]


@pytest.fixture(scope="module")
def reader(tmp_path_factory) -> ShardReader:
    folder = make_dataset(
        tmp_path_factory.mktemp("data"), videos_per_class=4, classes=CLASSES, frames=LENGTHS
    )
    return open_split(folder, "train")


def plain_clip(reader: ShardReader, record: int, frames: np.ndarray, transform, rng):
    """Every frame of a clip by itself, in order, decoded as often as the clip shows it."""
    pictures = [
        simplejpeg.decode_jpeg(reader.read_frames(record, [frame])[0]) for frame in frames.tolist()
    ]
    out = np.zeros((len(pictures), transform.size, transform.size, 3), np.uint8)
    label = transform(pictures, int(reader.index.labels["label"][record]), rng, out)
    return out, label


@pytest.mark.parametrize(("sampling", "segment_frames"), RULES)
def test_training_batches_are_the_plain_ones(reader, sampling, segment_frames):
    transform = replace(TRANSFORM, sampling=sampling, segment_frames=segment_frames)
    plan = BatchPlan(len(reader), 4, seed=1)
    batches = take(train_batches(reader, plan, transform, start_step=1), 3)
    for step, batch in enumerate(batches, 1):
        assert batch["clips"].shape == (4, *transform.clip_shape)
        assert transform.clip_shape == (4 * segment_frames, 20, 20, 3)
        for row, record in enumerate(plan.records(step).tolist()):
            rng = plan.rng(step, row)
            count = int(reader.index.num_frames[record])
            frames = frame_indices(count, 4, "random", rng, sampling, segment_frames)[0]
            clip, label = plain_clip(reader, record, frames, transform, rng)
            np.testing.assert_array_equal(batch["clips"][row], clip)
            assert batch["labels"][row] == label


@pytest.mark.parametrize(("sampling", "segment_frames"), RULES)
@pytest.mark.parametrize("views", [Views(1, 1), Views(2, 3), Views(10, 1)])
def test_evaluation_batches_are_the_plain_ones(reader, sampling, segment_frames, views):
    rule = {"sampling": sampling, "segment_frames": segment_frames}
    (batch,) = take(eval_batches(reader, len(reader), 4, 20, views, resize=None, **rule))
    several = (len(views),) if len(views) > 1 else ()
    assert batch["clips"].shape == (len(reader), *several, 4 * segment_frames, 20, 20, 3)
    for record in range(4):
        frames = views.frames(LENGTHS[record], 4, sampling, segment_frames)
        pictures = list(
            map(simplejpeg.decode_jpeg, reader.read_frames(record, range(LENGTHS[record])))
        )
        found = views.crop_frames(pictures, frames, 20, None, sampling)
        np.testing.assert_array_equal(batch["clips"][record].reshape(found.shape), found)


def test_workers_share_memory_for_whole_segments(reader):
    transform = replace(TRANSFORM, segment_frames=5, short_side=(20, 28))
    plan = BatchPlan(len(reader), 4, seed=0)
    expected = take(train_batches(reader, plan, transform, start_step=0), 4)
    assert_same(
        take(train_batches(reader, plan, transform, start_step=0, workers=1, prefetch=1), 4),
        expected,
    )


def test_a_new_field_of_the_transform_changes_no_older_clip(reader):
    """Runs from before there were segments go on with the same rows."""
    plan = BatchPlan(len(reader), 4, seed=0)
    (batch,) = take(train_batches(reader, plan, TRANSFORM, start_step=0), 1)
    for row, record in enumerate(plan.records(0).tolist()):
        rng, count = plan.rng(0, row), int(reader.index.num_frames[record])
        step = count // 4
        frames = np.arange(4) * step + rng.integers(step, size=4)
        clip, label = plain_clip(reader, record, frames, TRANSFORM, rng)
        np.testing.assert_array_equal(batch["clips"][row], clip)
        assert batch["labels"][row] == label


def test_training_drops_more_short_videos_where_segments_have_several_frames(tmp_path):
    reader = open_split(make_dataset(tmp_path, frames=[2, 3, 7, 8, 30]), "train")
    for segment_frames, dropped in ((1, [0, 5]), (5, [0, 1, 2, 5, 6, 7])):
        _, short = training_records(reader, segment_frames)
        assert short.tolist() == dropped
