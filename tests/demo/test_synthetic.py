"""The drawn videos: exact reversals as files, the same from one seed, mirrored as their names."""

import json
import os
import subprocess
import sys

import av
import numpy as np
import pytest

from aia_jax.data.flips import flip_pairs
from aia_jax.data.sampling import frame_indices
from aia_jax.demo import synthetic
from aia_jax.errors import UserError

COUNTS = {"train": 16, "validation": 8}


def decode(path):
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def files(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def centre_of_brightness(frames):
    """Mean column of what is brighter than the ground, of the first and the last frame."""
    bright = np.maximum(frames.max(-1).astype(float) - 90, 0)
    return [
        (frame.sum(0) * np.arange(frame.shape[1])).sum() / frame.sum()
        for frame in (bright[0], bright[-1])
    ]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("synthetic") / "videos"
    assert synthetic.make(out, 5, COUNTS)
    return out


def test_every_class_of_every_split_has_the_same_number(made):
    for split, count in COUNTS.items():
        assert {
            folder.name: len(list(folder.glob("*.mp4"))) for folder in (made / split).iterdir()
        } == dict.fromkeys(synthetic.CLASSES, count // len(synthetic.CLASSES))


@pytest.mark.parametrize("pair", synthetic.PAIRS)
def test_decoded_video_is_the_exact_reverse_of_its_partner(made, pair):
    for split, count in COUNTS.items():
        for number in range(count // len(synthetic.CLASSES)):
            forward, backward = (
                decode(synthetic.video_path(made, split, name, number)) for name in pair
            )
            assert forward.shape[1:] == (synthetic.SIZE, synthetic.SIZE, 3)
            np.testing.assert_array_equal(forward, backward[::-1])
            assert (forward != forward[::-1]).any()


def test_reversal_is_exact_without_x264_too(tmp_path, monkeypatch):
    monkeypatch.setattr(av, "codecs_available", {"mpeg4"})
    rng = np.random.default_rng(0)
    frames = synthetic.render(synthetic.draw_scene(0, rng), rng)
    for name, ordered in (("a.mp4", frames), ("b.mp4", frames[::-1])):
        synthetic.write_video(tmp_path / name, ordered)
    decoded = decode(tmp_path / "a.mp4")
    np.testing.assert_array_equal(decoded, decode(tmp_path / "b.mp4")[::-1])
    assert np.abs(decoded.astype(int) - frames).mean() < 6


@pytest.mark.parametrize("length", range(synthetic.FRAMES[0], synthetic.FRAMES[1] + 1))
def test_centre_frames_of_every_length_are_the_same_read_backwards(length):
    indices = frame_indices(length, 8, "center")[0]
    np.testing.assert_array_equal(indices, length - 1 - indices[::-1])


def test_same_seed_same_files(made, tmp_path):
    synthetic.make(tmp_path / "again", 5, COUNTS)
    synthetic.make(tmp_path / "other", 6, COUNTS)
    assert files(tmp_path / "again") == files(made)
    assert not set(files(tmp_path / "other").values()) & set(files(made).values())


def test_objects_move_to_the_side_in_their_class_name_and_mirrored_to_the_other():
    for number in range(10):
        rng = np.random.default_rng(number)
        right = synthetic.render(synthetic.draw_scene(0, rng), rng)
        left = right[::-1]
        assert np.diff(centre_of_brightness(right)) > 20
        assert np.diff(centre_of_brightness(left)) < -20
        assert np.diff(centre_of_brightness(left[:, :, ::-1])) > 20


def test_flip_rule_swaps_left_and_right_and_keeps_the_others():
    names = tuple(sorted(synthetic.CLASSES))
    partner = flip_pairs(names).partner
    left, right = names.index("moving something left"), names.index("moving something right")
    assert partner[left] == right and partner[right] == left
    assert all(partner[k] == k for k in range(len(names)) if k not in (left, right))


def test_finished_folder_stays_and_an_interrupted_one_is_completed(tmp_path):
    out = tmp_path / "videos"
    synthetic.make(out, 1, COUNTS)
    whole = files(out)
    assert not synthetic.make(out, 1, COUNTS)
    record = out / synthetic.SETTINGS
    record.write_text(json.dumps(json.loads(record.read_text()) | {"finished": False}))
    synthetic.video_path(out, "train", synthetic.CLASSES[3], 1).unlink()
    assert synthetic.make(out, 1, COUNTS)
    assert files(out) == whole


def test_folder_with_other_things_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("dear diary")
    with pytest.raises(UserError, match="did not write"):
        synthetic.make(tmp_path, 0, COUNTS)
    assert files(tmp_path) == {"mine.txt": b"dear diary"}


def test_command_tells_and_refuses_other_settings(tmp_path):
    command = [
        sys.executable,
        "-m",
        "aia_jax.demo.synthetic",
        "--out",
        str(tmp_path / "v"),
        "--train",
        "8",
        "--validation",
        "8",
    ]
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    first = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert first.returncode == 0 and "8 training and 8 held-out videos of 8 classes" in first.stdout
    other = subprocess.run(
        [*command, "--seed", "1"], capture_output=True, text=True, env=environment
    )
    assert (
        other.returncode == 2
        and other.stderr.startswith("error: ")
        and other.stderr.count("\n") == 1
    )
    few = subprocess.run(
        [*command, "--train", "7"], capture_output=True, text=True, env=environment
    )
    assert few.returncode == 2 and "--train 7 is too few" in few.stderr
