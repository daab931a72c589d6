"""Views: the protocols' frames and the three crops, and how they are written on a command line."""

import numpy as np
import pytest

from aia_jax.data.crops import crop_frames
from aia_jax.data.sampling import frame_indices
from aia_jax.data.view_crops import center_crop, three_crops
from aia_jax.data.views import Views
from aia_jax.errors import UserError

PICTURES = list(np.random.default_rng(0).integers(0, 256, (12, 24, 32, 3), np.uint8))


@pytest.mark.parametrize(
    ("text", "views"),
    [("1x1", Views(1, 1)), ("2x3", Views(2, 3)), ("10x3", Views(10, 3)), ("10×1", Views(10, 1))],
)
def test_clips_and_crops_are_written_with_an_x(text, views):
    assert Views.parse(text) == views and len(views) == views.clips * views.crops
    assert Views.parse(str(views)) == views


@pytest.mark.parametrize("text", ["", "3x1", "2x2", "1x4", "2", "x", "2x3x1", "-1x1", "10 x 3"])
def test_other_numbers_are_refused_with_those_that_there_are(text):
    with pytest.raises(UserError, match="one of 1, 2, 10, crops one of 1, 3, 5, 10"):
        Views.parse(text)


@pytest.mark.parametrize(("clips", "protocol"), [(1, "center"), (2, "twice"), (10, "dense10")])
def test_the_clips_are_those_of_a_protocol(clips, protocol):
    assert Views.from_protocol(protocol) == Views(clips, 1)
    np.testing.assert_array_equal(Views(clips, 3).frames(97, 8), frame_indices(97, 8, protocol))
    np.testing.assert_array_equal(
        Views(clips, 3).frames(30, 8, "uniform"), frame_indices(30, 8, protocol, sampling="uniform")
    )


@pytest.mark.parametrize("resize", [None, (16, 20)])
@pytest.mark.parametrize("views", [Views(1, 1), Views(2, 1), Views(2, 3)])
def test_every_view_is_its_crop_of_its_frames(views, resize):
    indices = views.frames(len(PICTURES), 4)
    distinct, inverse = np.unique(indices, return_inverse=True)
    found = views.crop_frames(
        [PICTURES[frame] for frame in distinct], inverse.reshape(indices.shape), 12, resize
    )
    assert found.shape == (len(views), 4, 12, 12, 3)
    geometry = resize or (24, 32)
    boxes = three_crops(*geometry, 12) if views.crops == 3 else [center_crop(*geometry, 12)]
    assert len({box.x for box in boxes}) == views.crops
    expected = np.empty((4, 12, 12, 3), np.uint8)
    for clip, frames in enumerate(indices):
        for crop, box in enumerate(boxes):
            crop_frames([PICTURES[frame] for frame in frames], box, geometry, expected)
            np.testing.assert_array_equal(found[clip * views.crops + crop], expected)


def test_a_video_shorter_than_a_clip_repeats_its_frames():
    views = Views(2, 3)
    indices = views.frames(2, 4)
    distinct, inverse = np.unique(indices, return_inverse=True)
    found = views.crop_frames(
        [PICTURES[frame] for frame in distinct], inverse.reshape(indices.shape), 24, None
    )
    np.testing.assert_array_equal(found[2, 0], PICTURES[0][:, 4:28])  # the centre crop of frame 0
    np.testing.assert_array_equal(found[2, 1], found[2, 0])
