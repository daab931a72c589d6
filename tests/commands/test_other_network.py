"""Every command with a network that has nothing of a ResNet: they ask the network.

It has no stages, no batch normalisation, segments of five frames, groups of its own, and tokens.
"""

import json

import cv2
import numpy as np
import pytest
import safetensors.numpy
from flax.traverse_util import flatten_dict

from aia_jax.checkpoints.trained_run import open_run
from aia_jax.errors import exit_status
from aia_jax.evaluation.__main__ import main as evaluation
from aia_jax.export.__main__ import main as export
from aia_jax.models import NETWORKS, Network
from aia_jax.weights.__main__ import main as weights
from tests.helpers import other_torch_names
from tests.helpers.other_network import OtherNetwork
from tests.helpers.raw_videos import numbered_frames, write_video
from tests.helpers.tiny_checkpoint import make_run
from tests.helpers.tiny_run import make_recipe, run_here, session_compile_cache

CLASSES = ("moving left", "moving right", "standing")
SEGMENTS, FRAMES = 2, 10
OTHER = [
    "--config.model.name=other",
    "--config.model.compute_dtype=float32",
    f"--config.data.num_frames={SEGMENTS}",
    "--config.train.epochs=1",
]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a recipe, its data, a video, and a run of the network."""
    folder = tmp_path_factory.mktemp("made")
    recipe = make_recipe(folder, frames=14)
    text = recipe.read_text().replace(', attention="C"', "").replace('stem="small", ', "")
    recipe.write_text(text.replace("width=8, stage_sizes=(1,)", "dropout=0.1"))
    write_video(folder / "clip.mp4", numbered_frames(24, 48, 64))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(NETWORKS, "other", Network(OtherNetwork, other_torch_names))
        done = run_here(
            *("train.py", recipe, folder / "run", *OTHER),
            *("--config.train.ema_decay=0.5", "--config.train.accumulate=2"),
        )
        assert done.returncode == 0, done.stderr
        yield folder, done.stdout


def call(command, *arguments) -> None:
    with session_compile_cache():
        assert exit_status(lambda: command(list(map(str, arguments)))) == 0


def test_it_trains_with_its_own_groups_and_says_so(made):
    folder, said = made
    for pattern, factors in OtherNetwork.optim_groups:
        assert f"LR × {factors['lr']:g}, decay × {factors['decay']:g}: {pattern}" in said
    assert "(10×12×12)" in said
    run = open_run(folder / "run")
    assert run.config.optim.groups == OtherNetwork.optim_groups
    assert run.clip_shape == (FRAMES, 12, 12, 3) and not run.variables["batch_stats"]


def test_frozen_parameters_stay(made):
    folder, _ = made
    started = ["--config.init_from=" + str(folder / "run"), "--config.train.freeze=frames mix/.*"]
    started += [f"--config.optim.{text}" for text in ("name=adamw", "schedule=cosine")]
    command = "train.py", folder / "tiny.py", folder / "frozen", *OTHER, *started
    done = run_here(*command, "--config.optim.milestones=")
    assert done.returncode == 0, done.stderr
    assert "adamw, betas 0.9 and 0.999" in done.stdout and "a cosine down to × 0" in done.stdout
    assert "classes: 3 of 3 mapped by name" in done.stdout and "fresh" in done.stdout
    before, after = (
        flatten_dict(open_run(folder / name).variables["params"], sep="/")
        for name in ("run", "frozen")
    )
    for name, leaf in before.items():
        held = name.startswith(("frames", "mix/"))
        assert np.array_equal(leaf, after[name]) == held, name
    # The cosine falls over the epochs of the run, and not below zero before its end.
    rows = map(json.loads, (folder / "frozen" / "metrics.jsonl").read_text().splitlines())
    rates = [row["lr"] for row in rows if "lr" in row]
    assert 0 < rates[-1] < open_run(folder / "frozen").config.optim.lr


def test_a_run_goes_on_with_its_own_optimiser_only(made):
    folder, _ = made
    done = run_here(
        *("train.py", folder / "tiny.py", folder / "run", *OTHER),
        *("--config.train.ema_decay=0.5", "--config.train.accumulate=2"),
        "--config.optim.name=lion",
    )
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert "optim.name: the run in this workdir has 'sgd', now it is 'lion'" in done.stderr


def test_layers_that_a_network_does_not_say_have_no_factors(made, tmp_path):
    folder, _ = made
    decay = "--config.optim.layer_decay=0.5"
    done = run_here(
        "train.py", folder / "tiny.py", tmp_path, *OTHER, decay, "--config.init_from=scratch"
    )
    assert done.returncode == 2
    assert "optim.layer_decay: found 0.5, but the network does not say" in done.stderr


def test_a_resnets_run_is_no_start_for_it(made, tmp_path):
    folder, _ = made
    plain = make_recipe(tmp_path)
    make_run(tmp_path / "resnet", plain, [], CLASSES, {})
    start = f"--config.init_from={tmp_path / 'resnet'}"
    done = run_here("train.py", folder / "tiny.py", tmp_path / "run", *OTHER, start)
    assert done.returncode == 2
    assert "weights are of the network 'resnet', and this run's is 'other'" in done.stderr


def test_it_is_tested_and_its_table_has_its_name(made, capsys):
    folder, _ = made
    done = run_here("eval.py", None, folder / "run")
    assert done.returncode == 0, done.stderr
    result = json.loads((folder / "run" / "eval.json").read_text())
    assert result["evaluated"] == 9
    (scores,) = (folder / "run").glob("*/*.npz")
    call(evaluation, "tables", scores)
    assert "Other with mixing none" in capsys.readouterr().out


def test_pictures_and_features_are_of_its_segments(made, tmp_path):
    folder, _ = made
    for command in ("gradcam", "gates"):
        call(
            evaluation, command, folder / "run", "--videos", folder / "clip.mp4", "--out", tmp_path
        )
    strip = cv2.imread(str(tmp_path / "clip_gradcam.png"))
    gates = cv2.imread(str(tmp_path / "clip_gates_mix.png"))
    assert strip.shape == gates.shape and strip.shape[1] > strip.shape[0]
    call(evaluation, "features", folder / "run", "--out", tmp_path / "found.npz")
    assert np.load(tmp_path / "found.npz")["features"].shape == (9, 4)


def test_it_is_exported_with_all_frames_of_its_segments(made, tmp_path):
    folder, _ = made
    call(export, "--workdir", folder / "run", "--out", tmp_path / "model.bin")
    facts = json.loads((tmp_path / "model.json").read_text())
    assert facts["input"]["shape"] == ["b", FRAMES, 12, 12, 3]


def test_its_weights_go_to_pytorch_and_back(made, tmp_path):
    folder, _ = made
    path = tmp_path / "other.safetensors"
    call(weights, "--to-torch", "--workdir", folder / "run", "--out", path)
    assert set(safetensors.numpy.load_file(path)) == {row[1] for row in other_torch_names.table(0)}
    done = run_here(
        *("convert_torch_weights.py", folder / "tiny.py", None, *OTHER[:3]),
        *("--config.data.num_classes=3", "--torch", str(path), "--out", str(tmp_path / "back")),
    )
    assert done.returncode == 0, done.stderr
    back = safetensors.numpy.load_file(tmp_path / "back" / "weights.safetensors")
    params = open_run(folder / "run").variables["params"]
    np.testing.assert_array_equal(back["params/mix/query/kernel"], params["mix"]["query"]["kernel"])
