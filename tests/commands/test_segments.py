"""train.py and eval.py with a network that takes segments of consecutive frames."""

import json

from aia_jax.models.resnet.modeling import ResNet
from tests.helpers.tiny_run import make_recipe, run_here


def test_a_run_trains_and_is_tested_on_segments(tmp_path, monkeypatch):
    monkeypatch.setattr(ResNet, "segment_frames", 5)  # a ResNet takes any number of frames
    recipe, workdir = make_recipe(tmp_path, frames=[9, 30, 7]), tmp_path / "run"
    settings = ["data.num_frames=2", "model.attention=none", "train.epochs=1"]
    done = run_here("train.py", recipe, workdir, *(f"--config.{text}" for text in settings))
    assert done.returncode == 0, done.stderr
    assert "a clip (10×12×12)" in done.stdout
    assert "note: 6 training videos have fewer than 8 frames and are not used" in done.stdout

    done = run_here("eval.py", None, workdir, "--views", "10x1", "--config.data.num_frames=1")
    assert done.returncode == 0, done.stderr
    assert "note: trained with 2 segments a clip, tested with 1" in done.stdout
    result = json.loads((workdir / "eval.json").read_text())
    assert (result["num_frames"], result["clips"], result["evaluated"]) == (1, 10, 9)
