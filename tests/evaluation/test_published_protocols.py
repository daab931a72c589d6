"""Published protocols as a whole, against loops written from what their publishers' code does.

Frames, crops, mirror images and averaging of every card, on frames of odd sizes and videos of odd
lengths. The network is a fixed random function of a view's pixels.
"""

import math

import numpy as np
import pytest

from aia_jax.evaluation.scores import average_views
from aia_jax.frame_geometry import short_side
from aia_jax.weights.source_cards import CARDS, PublishedTest, SourceCard

CLASSES, MIDDLE = 5, 127.5
SEGMENT = {"h2cn": 5}  # consecutive frames of a segment, of networks that have several
# What differs between cards but for the network; one card of each.
KINDS = {
    (card.publisher, card.resize, card.sampling, test): (card, test)
    for card in CARDS.values()
    for test in card.tests
}
# (height, width) of a frame over its short side; portrait, square, and sides that no step divides.
SHAPES = ((1, 343 / 256), (343 / 256, 1), (1, 1), (1, 455 / 256), (1, 1.011))


def plain_frames(card: SourceCard, test: PublishedTest, count: int) -> list[list[int]]:
    """The frames of each clip, from 0."""
    segments, size = test.num_frames, SEGMENT.get(card.model["name"], 1)
    if card.sampling.startswith("dense"):  # TokShift, MSCA: data/dataset.py
        stride, clips = int(card.sampling[5:]), []
        for clip in range(test.views.clips):
            start = 0
            if count > segments * stride:
                start = min(int(clip * count / 10), count - segments * stride + 1)
            clips.append([(start + i * stride) % count for i in range(segments)])
        return clips
    if size == 5:  # H2CN draws; here clip j takes the middle of the jth tenth of each part
        places = max(1, count - 4)
        starts = [
            [int((i + (j + 0.5) / 10) * (places / segments)) for i in range(segments)]
            for j in range(10)
        ]
        return [
            [min(min(start, places - 1) + k, count - 1) for start in clip for k in range(5)]
            for clip in starts
        ]
    if test.views.clips == 10:  # TSM: ops/dataset.py, dense_sample
        last = max(1, 1 + count - 64) - 1
        starts = np.linspace(0, last, num=10, dtype=int).tolist()
        return [
            [(i * (64 // segments) + start) % count for i in range(segments)] for start in starts
        ]
    # TSM's tick, mmaction2's avg_interval: the middles of the segments, and their starts.
    tick = count / float(segments)
    clips = [[int(tick / 2.0 + tick * i) for i in range(segments)]]
    if test.views.clips == 2:
        clips.append([int(tick * i) for i in range(segments)])
    return clips


def plain_crops(
    card: SourceCard, test: PublishedTest, height: int, width: int
) -> list[tuple[int, int, bool]]:
    """x, y and whether it is mirrored, of every crop."""
    size, crops = test.crop, test.views.crops
    if crops == 1:  # torchvision's CenterCrop
        return [(round((width - size) / 2.0), round((height - size) / 2.0), False)]
    if crops == 10:  # GroupOverSample, TenCrop
        steps = (width - size) // 4, (height - size) // 4
        places = ((0, 0), (4, 0), (0, 4), (4, 4), (2, 2))
        return [(a * steps[0], b * steps[1], m) for a, b in places for m in (False, True)]
    if card.sampling == "mmaction2":  # ThreeCrop
        assert size in (height, width)
        if size == height:
            step = (width - size) // 2
            return [(k * step, 0, False) for k in (0, 2, 1)]
        step = (height - size) // 2
        return [(0, k * step, False) for k in (0, 2, 1)]
    if card.sampling.startswith("dense"):  # centre, left, right
        middle = math.floor((width - size) / 2), math.floor((height - size) / 2)
        return [(x, middle[1], False) for x in (middle[0], 0, width - size)]
    steps = (width - size) // 4, (height - size) // 4  # GroupFullResSample
    return [(k * steps[0], 2 * steps[1], False) for k in (0, 4, 2)]


def plain_result(views: list[np.ndarray], kernel: np.ndarray, averaging: str) -> np.ndarray:
    """The probabilities of a video."""
    total = np.zeros(CLASSES)
    for view in views:
        logits = (view.reshape(-1) - MIDDLE) @ kernel
        total += np.exp(logits) / np.exp(logits).sum() if averaging == "probabilities" else logits
    mean = total / len(views)
    return mean if averaging == "probabilities" else np.exp(mean) / np.exp(mean).sum()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind[0]} {kind[3].views}")
def test_a_whole_protocol(kind):
    card, test = KINDS[kind]
    size = SEGMENT.get(card.model["name"], 1)
    rng = np.random.default_rng(0)
    shapes = [card.resize] if isinstance(card.resize, tuple) else []
    if short := short_side(card.resize):
        shapes = [(int(short * high), int(short * wide)) for high, wide in SHAPES]
    if size > 1:  # 10 clips of 40 frames and more: a shape takes a second and half a gigabyte
        shapes = shapes[:1]
    for number, (height, width) in enumerate(shapes):
        count = (65, 7, 29, 257, 300)[number]
        frames = test.views.frames(count, test.num_frames, card.sampling, size)
        assert frames.tolist() == plain_frames(card, test, count)
        # A few pixels of every frame decide; all views of all frames would take gigabytes.
        video = {k: rng.integers(0, 256, (height, width, 3), np.uint8) for k in set(frames.flat)}
        distinct, inverse = np.unique(frames, return_inverse=True)
        inverse = inverse.reshape(frames.shape)
        places = sorted(rng.choice(test.crop**2, 40, replace=False).tolist())
        rows, columns = np.divmod(np.array(places), test.crop)
        inputs = frames.shape[1] * len(places) * 3
        kernel = rng.normal(0, 1 / (74 * inputs**0.5), (inputs, CLASSES))  # logits of deviation 1

        expected = []
        for clip in plain_frames(card, test, count):
            for x, y, mirrored in plain_crops(card, test, height, width):
                across = test.crop - 1 - columns if mirrored else columns
                expected.append(np.stack([video[k][y + rows, x + across] for k in clip]))
        made = test.views.crop_frames(
            [video[k] for k in distinct.tolist()], inverse, test.crop, card.resize, card.sampling
        )
        assert made.shape == (len(test.views), frames.shape[1], test.crop, test.crop, 3)
        seen = made[:, :, rows, columns]
        np.testing.assert_array_equal(seen, np.stack(expected))
        logits = np.stack([(view.reshape(-1) - MIDDLE) @ kernel for view in seen])
        result = np.exp(average_views(logits[None], test.averaging)[0].astype(np.float64))
        np.testing.assert_allclose(
            result / result.sum(), plain_result(expected, kernel, test.averaging), rtol=1e-5
        )
        if len({view.tobytes() for view in expected}) > 1:  # the test tells the averages apart
            other = {"logits": "probabilities", "probabilities": "logits"}[test.averaging]
            assert (
                np.abs(plain_result(expected, kernel, other) - result / result.sum()).max() > 1e-4
            )
