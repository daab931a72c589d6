"""Random resized crops, colour jitter, random erasing, and how a transform draws them all."""

import math
import pickle
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aia_jax import config as configs
from aia_jax.data import photometric
from aia_jax.data.augment import TrainTransform
from aia_jax.data.clip_changes import ColorJitter, RandomErasing, clip_changes
from aia_jax.data.crops import draw_resized_crop
from aia_jax.data.pipeline import train_batches
from aia_jax.data.plan import BatchPlan
from aia_jax.data.rand_augment import RandAugment
from aia_jax.shards.reader import open_split
from tests.helpers.clips import coarse_clip
from tests.helpers.paths import ROOT
from tests.helpers.tiny_data import make_dataset
from tests.helpers.tiny_pipeline import CLASSES, TRANSFORM, assert_same, take

ALL = (ColorJitter(0.4, 0.4, 0.4, 0.1), RandAugment(2, 9.0, 1.0), RandomErasing(0.5))


@settings(deadline=None)
@given(
    st.integers(1, 400),
    st.integers(1, 400),
    st.sampled_from([(0.08, 1.0), (0.5, 0.5), (1.0, 1.0)]),
    st.integers(0, 2**32),
)
def test_a_resized_crop_lies_in_its_frame(height, width, shares, seed):
    box = draw_resized_crop(height, width, np.random.default_rng(seed), shares)
    assert min(box.width, box.height) > 0 <= min(box.x, box.y)
    assert box.x + box.width <= width
    assert box.y + box.height <= height


def test_resized_crops_have_every_area_and_aspect():
    rng = np.random.default_rng(0)
    boxes = [draw_resized_crop(480, 480, rng, (0.1, 0.5)) for _ in range(4000)]
    areas = np.array([box.width * box.height / 480**2 for box in boxes])
    aspects = np.array([math.log(box.width / box.height, 4 / 3) for box in boxes])
    for values, least, greatest in ((areas, 0.1, 0.5), (aspects, -1, 1)):
        counts, _ = np.histogram(values, 8, (least, greatest))
        assert abs(counts - 500).max() < 105  # 5 standard deviations
        assert least * 1.02 - 0.02 < values.min() < values.max() < greatest * 1.02


@pytest.mark.parametrize(
    ("height", "width", "expected"), [(30, 300, (40, 30)), (300, 30, (30, 40))]
)
def test_a_frame_of_another_shape_than_any_crop_gives_its_middle(height, width, expected):
    box = draw_resized_crop(height, width, np.random.default_rng(0), (1.0, 1.0))
    assert (box.width, box.height) == expected
    assert (box.x, box.y) == ((width - box.width) // 2, (height - box.height) // 2)


def test_jitter_of_one_kind_is_the_change_of_that_name():
    for place, change in enumerate(("brightness", "contrast", "saturation", "hue")):
        largest = [0.0] * 4
        largest[place] = 0.4
        found, expected = coarse_clip(), coarse_clip()
        ColorJitter(*largest)(found, np.random.default_rng(3))
        rng = np.random.default_rng(3)
        rng.random(), rng.permutation(4), rng.random(place)
        low = -0.4 if change == "hue" else 0.6
        getattr(photometric, change)(expected, rng.uniform(low, low + 0.8))
        np.testing.assert_allclose(found.astype(int), expected, atol=1)
        assert (found != coarse_clip()).any()


def test_jitter_changes_the_share_of_clips_that_is_asked_for_in_every_order():
    rng, changed, results = np.random.default_rng(0), 0, set()
    for _ in range(400):
        clip = coarse_clip(1, 8, 8)
        ColorJitter(0.4, 0.4, 0.4, 0.2, prob=0.5)(clip, rng)
        changed += bool((clip != coarse_clip(1, 8, 8)).any())
        results.add(clip.tobytes())
    assert 150 < changed < 250
    assert len(results) > changed - 5


def test_erasing_puts_noise_into_one_box_of_all_frames():
    original = np.full((3, 60, 60, 3), 7, np.uint8)
    shares = []
    for seed in range(200):
        clip = original.copy()
        RandomErasing(1.0)(clip, np.random.default_rng(seed))
        touched = (clip != original).any(axis=(0, 3))
        rows, columns = np.flatnonzero(touched.any(1)), np.flatnonzero(touched.any(0))
        box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert touched[box].mean() > 0.99  # a value of the noise may be 7
        assert touched.sum() == touched[box].sum()
        shares.append(touched.mean())
        noise = clip[:, *box].astype(float)
        assert abs(noise.mean() - 127.5) < 15
        assert (clip[0] != clip[1]).any()
    assert 0.015 < min(shares) < 0.06
    assert 0.27 < max(shares) < 0.35


@pytest.mark.parametrize("prob", [0.0, 0.25])
def test_erasing_changes_the_share_of_clips_that_is_asked_for(prob):
    rng, erased = np.random.default_rng(0), 0
    for _ in range(400):
        clip = np.zeros((1, 16, 16, 3), np.uint8)
        RandomErasing(prob)(clip, rng)
        erased += bool(clip.any())
    assert abs(erased - 400 * prob) < 45


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    folder = make_dataset(
        tmp_path_factory.mktemp("data"), videos_per_class=3, classes=CLASSES, frames=[10, 3]
    )
    return open_split(folder, "train")


def test_changes_are_the_same_on_resume_in_workers_and_on_every_host(reader):
    transform = replace(TRANSFORM, resized_crop=(0.1, 1.0), changes=ALL)
    plan = BatchPlan(len(reader), 4, seed=0)
    whole = take(train_batches(reader, plan, transform, start_step=0), 6)
    assert_same(
        take(train_batches(reader, plan, transform, start_step=3, workers=1, prefetch=1), 3),
        whole[3:],
    )
    second_host = [{key: value[2:] for key, value in batch.items()} for batch in whole]
    assert_same(
        take(
            train_batches(
                reader, plan, transform, start_step=0, host_index=1, host_count=2, threads=3
            ),
            6,
        ),
        second_host,
    )


def test_changes_come_after_the_crop_and_the_flip_and_draw_after_them(reader):
    """So a clip with changes is the same clip without them, changed."""
    plan = BatchPlan(len(reader), 4, seed=0)
    (plain,) = take(train_batches(reader, plan, TRANSFORM, start_step=0), 1)
    inverted = replace(TRANSFORM, changes=(lambda clip, rng: photometric.invert(clip),))
    (found,) = take(train_batches(reader, plan, inverted, start_step=0), 1)
    np.testing.assert_array_equal(found["clips"], 255 - plain["clips"])
    np.testing.assert_array_equal(found["labels"], plain["labels"])
    # And no change's draws move a crop or a flip.
    (changed,) = take(train_batches(reader, plan, replace(TRANSFORM, changes=ALL), start_step=0), 1)
    np.testing.assert_array_equal(changed["labels"], plain["labels"])
    assert all((a != b).any() for a, b in zip(changed["clips"], plain["clips"], strict=True))


def test_all_frames_of_a_clip_are_changed_alike():
    frames = [coarse_clip(1, 24, 32)[0]] * 4
    transform = TrainTransform(4, 20, np.arange(3), resize=None, changes=ALL[:2])
    for seed in range(20):
        out = np.zeros((4, 20, 20, 3), np.uint8)
        transform(frames, 0, np.random.default_rng(seed), out)
        assert (out == out[0]).all()


def test_a_recipe_says_the_changes_in_their_order():
    def found(*overrides: str) -> tuple:
        data = configs.load(str(ROOT / "configs/ssv1.py:tsn"), list(overrides)).data
        return clip_changes(data)

    assert found() == ()
    assert found("data.randaugment=2") == (RandAugment(2, 9.0, 0.5),)
    assert found("data.color_jitter=0.4,0.4,0.4,0.1", "data.color_jitter_prob=0") == ()
    several = found(
        "data.erase=0.25",
        "data.randaugment=4",
        "data.randaugment_magnitude=7",
        "data.randaugment_prob=1",
        "data.color_jitter=0.4,0.3,0.2,0.1",
        "data.color_jitter_prob=0.8",
    )
    assert several == (
        ColorJitter(0.4, 0.3, 0.2, 0.1, 0.8),
        RandAugment(4, 7.0, 1.0),
        RandomErasing(0.25),
    )
    assert pickle.loads(pickle.dumps(several)) == several
