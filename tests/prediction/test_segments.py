"""Own videos for a network that takes segments of consecutive frames."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from aia_jax.checkpoints.trained_run import open_run
from aia_jax.data.sampling import frame_indices
from aia_jax.data.views import Views
from aia_jax.errors import UserError
from aia_jax.evaluation.film_strip import middle_frames, spread_maps
from aia_jax.evaluation.look import draw_gates, draw_gradcam
from aia_jax.export.model_card import card_facts
from aia_jax.models.resnet.modeling import ResNet
from aia_jax.prediction.frame_format import find_frame_format
from aia_jax.prediction.predict import Classifier, Prediction, predict, read_views
from aia_jax.prediction.sliding import Sliding
from aia_jax.prediction.window_reader import read_windows
from aia_jax.video.timed_frames import Clock, read_clock
from tests.helpers.raw_videos import numbered_frames, write_frames
from tests.helpers.tiny_checkpoint import make_run
from tests.helpers.tiny_run import RECIPE, session_compile_cache

NAMES = ["Brightens", "Reddens"]
COUNT = 30  # frames of the video, 12 a second


@pytest.fixture(scope="module")
def segmented():
    """A network that takes 5 frames a segment; a ResNet takes any number of frames."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ResNet, "segment_frames", 5)
        yield


@pytest.fixture(scope="module")
def made(segmented, tmp_path_factory):
    """A run, and a video whose frames differ in brightness."""
    folder = tmp_path_factory.mktemp("made")
    recipe = folder / "tiny.py"
    recipe.write_text(RECIPE.format(data="nowhere").replace("num_classes=3", "num_classes=2"))
    make_run(folder / "run", recipe, ["data.resize=18,24"], NAMES, {"top1": 0.5})
    video = write_frames(folder / "frames", numbered_frames(COUNT, 18, 24))
    return open_run(folder / "run"), video


def frames_of(clip: np.ndarray, pictures: np.ndarray) -> list[int]:
    """Which frames of the video a clip shows, by their brightness."""
    levels, shown = (one.mean((1, 2, 3)) for one in (pictures, clip))
    return np.abs(shown[:, None] - levels).argmin(1).tolist()


def test_a_video_is_read_as_segments(made):
    run, video = made
    assert run.clip_shape == (20, 12, 12, 3)
    read = read_views(video, run, Views(2, 3), find_frame_format(run))
    indices = frame_indices(COUNT, 4, "twice", segment_frames=5)
    assert read.views.shape == (6, 20, 12, 12, 3)
    assert read.seen == tuple(np.unique(indices).tolist())
    whole = np.array(numbered_frames(COUNT, 18, 24))[:, 2:14, 6:18]  # as the third crop
    assert frames_of(read.views[2], whole) == indices[0].tolist()
    with session_compile_cache():
        (found,) = predict(run, [video], Views(), find_frame_format(run), Classifier(run, 1))
    assert isinstance(found, Prediction) and found.probabilities.shape == (2,)
    assert len(found.seen) == 20


def test_a_window_is_read_as_segments_of_its_own_frames(made):
    run, video = made
    clock, sliding = read_clock(video, "", 12.0), Sliding(1.0, 0.5)
    windows = list(read_windows(video, run, Views(), sliding, find_frame_format(run), clock))
    assert len(windows) == 4
    for number, window in enumerate(windows):
        indices = 6 * number + frame_indices(12, 4, "center", segment_frames=5)
        assert window.views.shape == (1, 20, 12, 12, 3)
        assert window.seen == tuple(np.unique(indices).tolist())


def test_a_window_that_is_shorter_than_a_segment_is_refused(made):
    run, video = made
    clock, sliding = read_clock(video, "", 12.0), Sliding(0.25, 0.25)
    with pytest.raises(UserError, match=r"--window 0.25: .* 5 consecutive .* at least 0.417"):
        next(read_windows(video, run, Views(), sliding, find_frame_format(run), clock))
    assert len(Sliding(0.5, 0.1).place(Path("a.mp4"), Clock(2.0, 10.0), 5)) == 16
    with pytest.raises(UserError, match=r"give at least 0\.5"):
        Sliding(0.4, 0.1).place(Path("a.mp4"), Clock(2.0, 10.0), 5)


def test_a_strip_shows_the_middle_frame_of_each_segment(made, tmp_path):
    run, video = made
    with session_compile_cache():
        looks = [*draw_gradcam([run], [video], tmp_path), *draw_gates(run, [video], tmp_path)]
    assert [cv2.imread(str(look.path)).shape[1] for look in looks] == [190 + 4 * 154 + 4] * 2
    strip = cv2.imread(str(looks[0].path))[60:170, 214:]  # inside of the frames
    shown = [strip[:, 154 * column : 154 * column + 110].mean() for column in range(4)]
    middles = frame_indices(COUNT, 4, "center", segment_frames=5)[0, 2::5]
    levels = np.array(numbered_frames(COUNT, 18, 24))[middles, 3:15, 6:18].mean((1, 2, 3))
    np.testing.assert_allclose(shown, levels, rtol=0.02)


def test_maps_of_fewer_frames_than_the_clip_belong_to_their_segments():
    clip = np.arange(15)
    assert middle_frames(clip, 5).tolist() == [2, 7, 12]
    assert middle_frames([clip, clip + 1, clip + 2], 3)[0] is not clip
    assert middle_frames([clip], 1)[0] is clip
    maps = np.arange(3.0)[:, None, None]  # one of each segment
    np.testing.assert_array_equal(middle_frames(spread_maps(maps, 15), 5), maps)
    np.testing.assert_array_equal(spread_maps(clip[:, None, None], 15)[:, 0, 0], clip)


def test_an_exports_card_says_which_frames_a_clip_has(made):
    facts = card_facts(made[0], "model.bin", b"", ("cpu",))
    assert facts["input"]["shape"] == ["b", 20, 12, 12, 3]
    assert facts["preprocessing"]["frames"].startswith(
        "20 of the video: 4 segments of 5 consecutive frames"
    )
