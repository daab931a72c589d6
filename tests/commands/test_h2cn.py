"""A narrow H2CN through the commands: trained, tested, predicting, exported, for PyTorch."""

import json

import numpy as np
import safetensors.numpy

from aia_jax.errors import exit_status
from aia_jax.export.__main__ import main as export
from aia_jax.weights.__main__ import main as weights
from tests.helpers.raw_videos import numbered_frames, write_video
from tests.helpers.tiny_run import make_recipe, rows, run_here, session_compile_cache

FIELDS = 'base.use_network(config, "h2cn", stem="small", width=8, stage_sizes=(1,))'


def test_a_run_from_training_to_export(tmp_path):
    recipe, run = make_recipe(tmp_path, frames=14), tmp_path / "run"
    lines = recipe.read_text().splitlines()
    lines = [f"    {FIELDS}" if "config.model.update" in line else line for line in lines]
    recipe.write_text("\n".join(lines))
    settings = ["data.num_frames=2", "train.epochs=1", "train.partial_bn=true"]
    done = run_here("train.py", recipe, run, *(f"--config.{text}" for text in settings))
    assert done.returncode == 0, done.stderr
    assert "a clip (10×12×12)" in done.stdout
    assert "LR × 2, decay × 0" in done.stdout
    losses = [row["loss"] for row in rows(run) if "loss" in row]
    assert losses and np.isfinite(losses).all()

    done = run_here("eval.py", None, run)
    assert done.returncode == 0, done.stderr
    assert json.loads((run / "eval.json").read_text())["evaluated"] == 9

    video = tmp_path / "clip.mp4"
    write_video(video, numbered_frames(24, 48, 64))
    done = run_here("predict.py", None, run, str(video))
    assert done.returncode == 0, done.stderr
    assert "moving left" in done.stdout

    def call(command, *arguments):
        with session_compile_cache():
            assert exit_status(lambda: command(list(map(str, arguments)))) == 0

    call(export, "--workdir", run, "--out", tmp_path / "model.bin")
    facts = json.loads((tmp_path / "model.json").read_text())
    assert facts["input"]["shape"] == ["b", 10, 12, 12, 3]
    call(weights, "--to-torch", "--workdir", run, "--out", tmp_path / "h2cn.safetensors")
    state_dict = safetensors.numpy.load_file(tmp_path / "h2cn.safetensors")
    assert state_dict["base_model.layer1_bak.0.mtdin.convt.weight"].shape == (1, 1, 3, 1, 1)
