"""The demo: its commands run on a few videos, a failure is one line, a stop reaches the command."""

import json
import math
import signal
import subprocess
import sys
import time

import pytest
from matplotlib.image import imread

from aia_jax import config as configs
from aia_jax.demo import __main__ as demo
from aia_jax.demo import synthetic
from aia_jax.errors import Stopped
from aia_jax.models import model_from_config
from tests.helpers.paths import ROOT
from tests.helpers.tiny_data import make_dataset

SMALL = [
    "--train=16",
    "--validation=8",
    "--config.train.epochs=1",
    "--config.train.batch_size=8",
    "--config.eval.batch_size=8",
    "--config.model.stage_sizes=1",
    "--config.model.width=8",
    "--config.data.crop=16",
    "--config.log.tensorboard=false",  # importing it takes seconds
]


def test_demo_makes_videos_runs_and_report(tmp_path, monkeypatch, capfd):
    # The demo's commands inherit this. XLA then compiles in two thirds of the time.
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "true")
    # Two of the four networks; the test below shows that the commands of all are right.
    fields = {"tsn": ("tsn", "none"), "aia": ("tsn", "CinST->STinC")}
    networks = [network for network in demo.NETWORKS if network.folder in fields]
    monkeypatch.setattr(demo, "NETWORKS", networks)
    status = demo.main(["--seed=3", f"--out={tmp_path}", *SMALL])
    printed, errors = capfd.readouterr()
    assert status == 0, errors
    assert len(list((tmp_path / "videos" / "validation").rglob("*.mp4"))) == 8
    for network in demo.NETWORKS:
        result = json.loads((tmp_path / network.folder / "eval.json").read_text())
        assert result["evaluated"] == result["expected"] == 8
        assert network.name in printed and f"{result['top1']:.1%}" in printed
        starts = json.loads((tmp_path / network.folder / "run.json").read_text())["starts"]
        config = starts[-1]["config"]
        model = config["model"]
        assert (model["temporal"], model["attention"]) == fields[network.folder]
        assert config["seed"] == 3
    assert len(demo.NETWORKS) == 2
    # TSN gives a video and its reverse one answer, so it is right about one of them at most.
    assert json.loads((tmp_path / "tsn" / "eval.json").read_text())["top1"] <= demo.BLIND
    assert imread(tmp_path / demo.REPORT).shape[1] == 1600
    page = (tmp_path / demo.PAGE).read_text()
    assert f"<h1>{demo.TITLE}</h1>" in page and "2 models" in page
    # Of both networks, on the hardest videos: their frames, and where they looked.
    assert page.count('alt="8 frames of') >= 3 and page.count('alt="Grad-CAM of') >= 2
    assert printed.rstrip().endswith(str(tmp_path / demo.REPORT))
    for command in (
        "-m aia_jax.demo.synthetic",
        "prepare_data.py folders",
        "train.py --config",
        "eval.py --config",
    ):
        assert f"$ python {command}" in printed


@pytest.mark.parametrize(
    ("network", "temporal", "attention"),
    zip(
        demo.NETWORKS,
        ("tsn", "tsn", "tsn", "tsm"),
        ("none", "C", "CinST->STinC", "none"),
        strict=True,
    ),
    ids=lambda value: getattr(value, "folder", ""),
)
def test_the_commands_of_every_network_train_and_test_that_network(
    network, temporal, attention, tmp_path
):
    recipe = f"{ROOT / 'configs' / 'demo.py'}:{network.argument}"
    overrides = ["--config.model.width=8"]
    commands = demo.run_commands(tmp_path, network.folder, 3, recipe, overrides)
    for command, script in zip(commands, ("train.py", "eval.py"), strict=True):
        assert (ROOT / script).samefile(command[1])
        options = configs.parse(command[2:], "", lambda parser: None)
        assert options.workdir == tmp_path / network.folder
        config = options.config
        assert (config.data.dir, config.seed) == (str(tmp_path / "data"), 3)
        model = model_from_config(config)
        assert (model.temporal, model.attention) == (temporal, attention)
        assert model.width == 8


def test_failing_command_ends_the_demo_with_one_line_and_its_status(tmp_path, monkeypatch, capfd):
    make_dataset(tmp_path / "data", 1, classes=synthetic.CLASSES, size=(16, 16))
    monkeypatch.setattr(demo, "data_commands", lambda *_: [])
    assert demo.main(["--out", str(tmp_path), *SMALL, "--config.data.num_classes=7"]) == 2
    message, last = capfd.readouterr().err.splitlines()
    assert message.startswith("error: ") and "num_classes=7" in message and "8 classes" in message
    assert last.startswith("error: status 2 of `python ") and "train.py" in last
    assert "num_classes=7" in last and not (tmp_path / demo.REPORT).exists()


def test_wrong_key_is_found_before_anything_is_done(tmp_path):
    arguments = ["--out", str(tmp_path / "demo"), "--config.train.epoch=1"]
    command = [sys.executable, "-m", "aia_jax.demo", *arguments]
    process = subprocess.run(command, capture_output=True, text=True)
    assert process.returncode == 2
    assert process.stderr.startswith("error: ") and "train.epochs" in process.stderr
    assert not (tmp_path / "demo").exists()


@pytest.mark.parametrize(
    ("program", "status"),
    [("import sys; sys.exit(9)", 9), ("import os; os.kill(os.getpid(), 9)", 137)],
)
def test_status_of_a_failed_command(program, status):
    with pytest.raises(demo.StepFailed, match=f"status {status} of `python -c") as failure:
        demo.run([sys.executable, "-c", program])
    assert failure.value.status == status


def test_stopped_command_stops_the_demo():
    with pytest.raises(Stopped):
        demo.run([sys.executable, "-c", "import sys; sys.exit(75)"])


def test_sigterm_reaches_the_command(tmp_path):
    waiting = (
        "import pathlib, signal, sys, time; signal.signal(15, lambda *_: sys.exit(75)); "
        "pathlib.Path(sys.argv[1]).touch(); time.sleep(60)"
    )
    program = (
        "import sys; from aia_jax.demo.__main__ import *; "
        "sys.exit(exit_status(lambda: run([sys.executable, '-c', *sys.argv[1:]])))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, waiting, str(tmp_path / "up")],
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (tmp_path / "up").exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 75
    assert errors.splitlines()[-1] == "stopped: run the same command again to go on from here"


def test_result_is_read_from_what_a_run_leaves(tmp_path):
    (tmp_path / "eval.json").write_text(
        json.dumps({"top1": 0.75, "top5": 1.0, "loss": 0.5, "evaluated": 12, "expected": 12})
    )
    rows = [
        {"step": 2, "split": "train", "loss": 2.0, "top1": 0.1},
        {"step": 2, "split": "validation", "loss": 1.9, "top1": 0.5},
        {"step": 4, "split": "train", "loss": None, "top1": 0.2},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = demo.read_result(tmp_path, "a net")
    assert (result.name, result.top1, result.evaluated) == ("a net", 0.75, 12)
    assert (
        list(result.loss.steps) == [2, 4]
        and result.loss.values[0] == 2.0
        and math.isnan(result.loss.values[1])
    )
    assert (list(result.accuracy.steps), list(result.accuracy.values)) == ([2], [0.5])


def test_example_strips_show_each_pair_with_the_same_frames_in_both_orders(tmp_path):
    synthetic.make(tmp_path, 0, {"train": 8, "validation": 8})
    groups = demo.example_strips(tmp_path, 8)
    assert [[strip.name for strip in group] for group in groups] == [
        list(pair) for pair in synthetic.PAIRS
    ]
    for forward, backward in groups:
        assert forward.frames.shape == (8, synthetic.SIZE, synthetic.SIZE, 3)
        assert (forward.frames == backward.frames[::-1]).all()
