"""metrics.jsonl, TensorBoard, the progress line, curves.png and what a run says at its start."""

import io
import json
import math
import signal
import struct
import subprocess
import sys
import textwrap

import cv2
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from aia_jax import config as configs
from aia_jax import sharding
from aia_jax.errors import UserError
from aia_jax.models import model_from_config
from aia_jax.training import startup
from aia_jax.training.curves import draw_curves
from aia_jax.training.log import METRICS_FILE, TENSORBOARD_DIR, NonFiniteLoss, RunLog, read_rows
from aia_jax.training.progress import ProgressLine
from tests.helpers.paths import ROOT
from tests.helpers.tiny_run import CLOCK

NO_WAIT = {"data_wait": 0.0, "device_idle": lambda: 0.0}


def open_log(workdir, start_step=0, **settings):
    defaults = {"total_steps": 60, "steps_per_epoch": 15, "log_every": 4, "tensorboard": False}
    return RunLog(workdir, start_step=start_step, **defaults | settings)


def metrics(step):
    return {
        "loss": jnp.float32(1 / step),
        "top1": jnp.float32(step / 100),
        "lr": 0.1 * step,
        "grad_norm": np.float32(2),
    }


def run(log, steps, save_every=10**9):
    """The training loop's calls: flush before a checkpoint and at the end of an epoch, then
    validate.
    """
    for step in steps:
        log.train(step, metrics(step), clips=8, **NO_WAIT)
        if step % save_every == 0 or step % 15 == 0:
            log.flush()
        if step % 15 == 0:
            log.validation(step, {"loss": 0.5, "top1": 0.25})


def lasting(rows):
    """Rows without what the clock says."""
    return [{name: value for name, value in row.items() if name not in CLOCK} for row in rows]


def covered(rows):
    return [
        step
        for row in rows
        if row["split"] == "train"
        for step in range(row["step"] - row["steps"] + 1, row["step"] + 1)
    ]


def test_rows_average_their_steps_and_end_at_intervals_and_epochs(tmp_path):
    with open_log(tmp_path) as log:
        run(log, range(1, 32))
    rows = read_rows(tmp_path / METRICS_FILE)
    assert covered(rows) == list(range(1, 32))
    assert [(row["step"], row["epoch"]) for row in rows if row["split"] == "train"] == [
        *[(4, 1), (8, 1), (12, 1), (15, 1)],
        *[(16, 2), (20, 2), (24, 2), (28, 2), (30, 2)],
        (31, 3),
    ]
    assert [(row["step"], row["epoch"]) for row in rows if row["split"] == "validation"] == [
        (15, 1),
        (30, 2),
    ]
    second = rows[1]
    assert second["loss"] == pytest.approx(np.mean([1 / 5, 1 / 6, 1 / 7, 1 / 8]), rel=1e-6)
    assert (
        second["top1"] == pytest.approx(0.065)
        and second["lr"] == pytest.approx(0.8)
        and second["grad_norm"] == 2
    )
    assert second["clips_per_s"] == pytest.approx(8 * second["steps_per_s"])
    assert 0 <= second["data_wait"] <= 1 and 0 <= second["device_idle"] <= 1
    assert rows[4] == {"step": 15, "epoch": 1, "split": "validation", "loss": 0.5, "top1": 0.25}


@settings(max_examples=25, deadline=None)
@given(
    kills=st.lists(st.integers(1, 40), max_size=3), save_every=st.integers(3, 9), torn=st.booleans()
)
def test_kills_leave_neither_gaps_nor_doubles(tmp_path_factory, kills, save_every, torn):
    whole, broken = tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("broken")
    with open_log(whole) as log:
        run(log, range(1, 41), save_every)
    start = 0
    for kill in [*sorted(kills), 40]:
        log = open_log(broken, start)
        run(log, range(start + 1, kill + 1), save_every)
        if kill == 40:
            log.flush()
        else:  # the process ends here without a word; the checkpoint before it counts
            start = max(
                [
                    step
                    for step in range(start, kill + 1)
                    if step % save_every == 0 or step % 15 == 0
                ],
                default=0,
            )
            if torn:
                with (broken / METRICS_FILE).open("a") as file:
                    file.write('{"step": 9, "ep')
        log.close()
    assert lasting(read_rows(broken / METRICS_FILE)) == lasting(read_rows(whole / METRICS_FILE))


KILLED = """
    import os, signal, sys
    from aia_jax.training.log import RunLog
    log = RunLog(sys.argv[1], total_steps=20, steps_per_epoch=20, log_every=2, tensorboard=False)
    for step in range(1, 12):
        log.train(step, {"loss": 1.0 / step}, clips=1, data_wait=0.0, device_idle=lambda: 0.0)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_leaves_whole_rows(tmp_path):
    killed = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KILLED), tmp_path],
        cwd=ROOT,
        capture_output=True,
        timeout=120,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert [row["step"] for row in read_rows(tmp_path / METRICS_FILE)] == [2, 4, 6, 8]
    with open_log(tmp_path, 4) as log:
        assert log.last_row("train")["step"] == 4
    assert [row["step"] for row in read_rows(tmp_path / METRICS_FILE)] == [2, 4]


def test_a_gap_is_named(tmp_path, capsys):
    with open_log(tmp_path, 8) as log:
        assert log.last_row("validation") is None
    assert "metrics.jsonl ends at step 0 and the run goes on from step 8" in capsys.readouterr().out


def test_the_newest_rows_survive_a_restart(tmp_path):
    with open_log(tmp_path) as log:
        run(log, range(1, 31))
        assert log.last_row("validation")["step"] == 30
    with open_log(tmp_path, 20) as log:
        assert log.last_row("validation")["step"] == 15


def test_a_foreign_line_is_named(tmp_path):
    (tmp_path / METRICS_FILE).write_text(
        '{"step": 1, "split": "train"}\n[]\n{"step": 2, "split": "train"}\n'
    )
    with pytest.raises(UserError, match="line 2"):
        open_log(tmp_path)


class OnDevice:
    """A scalar that notes when it is fetched."""

    def __init__(self, fetched, step):
        self.fetched, self.step = fetched, step

    def __array__(self, dtype=None, copy=None):
        self.fetched.append(self.step)
        return np.asarray(1.0, dtype)


def test_two_steps_stay_in_flight(tmp_path):
    fetched = []
    with open_log(tmp_path) as log:
        for step in range(1, 7):
            log.train(step, {"loss": OnDevice(fetched, step)}, clips=1, **NO_WAIT)
            assert fetched == list(range(1, step - 1))
        log.flush()
        assert fetched == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("wait", "told"), [(10.0, 1), (0.0, 0)]
)  # seconds a step, of which it lasts none
def test_that_the_input_is_the_bottleneck_is_said_once_after_the_first_epoch(
    tmp_path, capsys, wait, told
):
    with open_log(tmp_path) as log:
        for steps in (range(1, 16), range(16, 61)):
            assert "bottleneck" not in capsys.readouterr().out
            for step in steps:
                log.train(step, metrics(step), clips=8, data_wait=wait, device_idle=lambda: wait)
            log.flush()
    said = capsys.readouterr().out
    assert (
        said.count(
            "input is the bottleneck: steps 17 to 20 waited for data for 100% of their time "
            "(devices idle: 100%)"
        )
        == said.count("bottleneck")
        == told
    )
    assert said.count("raise data.workers (processes) or data.threads") == told


@pytest.mark.parametrize("process", [0, 1])
@pytest.mark.parametrize(
    ("quantity", "value"), [("loss", math.nan), ("loss", math.inf), ("grad_norm", math.inf)]
)
def test_a_loss_that_is_not_finite_stops_at_its_step_on_every_process(
    tmp_path, quantity, value, process
):
    with pytest.raises(NonFiniteLoss) as stop, open_log(tmp_path, process_index=process) as log:
        for step in range(1, 20):
            log.train(
                step,
                metrics(step) | ({quantity: jnp.float32(value)} if step >= 6 else {}),
                clips=8,
                **NO_WAIT,
            )
    assert (stop.value.step, stop.value.quantity, step) == (6, quantity, 8)
    assert "step 6" in str(stop.value)
    if process:
        assert not list(tmp_path.iterdir())
        return
    rows = read_rows(tmp_path / METRICS_FILE)
    assert [row["step"] for row in rows] == [4, 5, 6] and rows[-1][quantity] is None
    assert "NaN" not in (tmp_path / METRICS_FILE).read_text()


def test_flush_finds_a_loss_that_is_not_finite(tmp_path):
    log = open_log(tmp_path)
    log.train(1, {"loss": math.nan}, clips=1, **NO_WAIT)
    with pytest.raises(NonFiniteLoss):
        log.flush()
    log.close()


def test_an_exception_passes_and_files_are_closed(tmp_path):
    with pytest.raises(KeyboardInterrupt), open_log(tmp_path, tensorboard=True) as log:
        run(log, range(1, 10))
        raise KeyboardInterrupt
    with pytest.raises(ValueError, match="closed"):
        log.validation(9, {"loss": 1.0})


def events(workdir):
    """(step, tag, value) of every event file, by a reader of the record framing."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted((workdir / TENSORBOARD_DIR).iterdir()):
        data, at = path.read_bytes(), 0
        while at < len(data):
            (length,) = struct.unpack_from("<Q", data, at)
            event = Event.FromString(data[at + 12 : at + 12 + length])
            at += 16 + length
            found += [(event.step, value.tag, value.simple_value) for value in event.summary.value]
            if event.HasField("session_log"):
                found.append((event.step, "start", event.session_log.status))
    return found


def test_tensorboard_gets_the_rows_and_forgets_what_is_taken_again(tmp_path):
    with open_log(tmp_path, tensorboard=True) as log:
        run(log, range(1, 16))
    with open_log(tmp_path, 12, tensorboard=True) as log:
        run(log, range(13, 16))
    found = events(tmp_path)
    assert found.index((13, "start", 1)) > found.index((15, "validation/loss", 0.5))
    assert [value for step, tag, value in found if (step, tag) == (8, "train/top1")] == [
        pytest.approx(0.065)
    ]
    assert {tag for step, tag, _ in found if step == 15} >= {
        "train/loss",
        "train/lr",
        "train/clips_per_s",
        "validation/top1",
    }


def test_lines_where_there_is_no_terminal(tmp_path, capsys):
    with open_log(tmp_path) as log:
        run(log, range(1, 16))
        log.status("validating 1/2")
        log.message("[bold]a/b:c[/bold]")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("epoch 1/4  step 0/60") and "compiles" in lines[0]
    assert (
        lines[2].startswith("epoch 1/4  step 8/60  ETA ")
        and "loss 0.1586  LR 0.8  top-1 6.5%" in lines[2]
        and "clips/s" in lines[2]
    )
    assert lines[5] == "epoch 1  validation  loss 0.5  top-1 25.0%"
    assert lines[6] == "[bold]a/b:c[/bold]" and len(lines) == 7


@pytest.mark.parametrize("width", [60, 200])
def test_the_line_in_a_terminal(width):
    screen = io.StringIO()
    line = ProgressLine(
        1000, 100, 0, Console(file=screen, force_terminal=True, width=width, highlight=False)
    )
    line.step(7)
    line.row(
        {
            "split": "train",
            "step": 6,
            "epoch": 1,
            "loss": 1.5,
            "lr": 0.01,
            "top1": None,
            "clips_per_s": 812.3,
            "data_wait": 0.031,
        }
    )
    line.step(8)
    line.message("kept")
    line.close()
    text = screen.getvalue()
    # One line is redrawn.
    assert "kept\n" in text and "epoch 1/10  step 8/1,000  ETA 0:" in text and text.count("\n") == 2
    if width == 200:
        assert "loss 1.5  LR 0.01  812.3 clips/s  data wait 3%" in text


def test_curves(tmp_path):
    path, picture = tmp_path / METRICS_FILE, tmp_path / "curves.png"
    draw_curves(path, picture)
    empty = cv2.imread(str(picture))
    rows = [
        {"step": step, "split": "train", "loss": 9 / step, "top1": step / 5000, "lr": 0.1}
        for step in range(1, 3000)
    ]
    rows[1000]["loss"] = None
    rows += [
        {"step": step, "split": "validation", "loss": 0.5, "top1": 0.3} for step in (1000, 2000)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    draw_curves(path, picture)
    drawn = cv2.imread(str(picture))
    assert drawn.shape == empty.shape and drawn.shape[1] >= 1000
    for colour in ((0xB6, 0x6F, 0x3B), (0x2B, 0x66, 0xD1)):  # BGR of training and validation
        assert (np.abs(drawn.astype(int) - colour).max(-1) < 3).sum() > 200
        assert not (np.abs(empty.astype(int) - colour).max(-1) < 3).any()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["curves.png", METRICS_FILE]


def test_the_start_table():
    config = configs.load(
        ROOT / "configs" / "ssv2.py:aia_tsn",
        ["train.batch_size=8", "train.accumulate=2", "train.bn_group_size=4"],
    )
    table = startup.start_table(
        config,
        network=model_from_config(config).describe(),
        found={"train": 168_900, "validation": 24_777},
        classes=174,
        params=23_871_726,
        macs=32_960_035_104,
        mesh=sharding.make_mesh(config.mesh),
        steps_per_epoch=5278,
        start_step=5278,
        compile_cache="/home/a/compiled",
    )
    screen = io.StringIO()
    Console(file=screen, width=200).print(table)
    text = screen.getvalue()
    for words in (
        "ssv2 in data/ssv2",
        "train: 168,900 videos of 168,913 expected, 13 missing",
        "validation: 24,777 videos of 24,777 expected",
        "174 classes",
        "TSN with CinST->STinC, ResNet-50, float32",
        "60.3% top-1, 86.4% top-5 (Table II; 8 frames × 1 crop × 1 clip)",
        "23,871,726 parameters, 32.96 G",
        "data 1 × fsdp 1 × time 1",
        "8 clips, 8 a device, in 2 parts; BatchNorm over groups of 4",
        "/home/a/compiled",
        "0.0025 (the recipe's 0.01 is for batch 32)",
        "5,278 an epoch × 50 = 263,900; going on after step 5,278",
    ):
        assert words in text, (words, text)


def test_run_json_has_an_entry_a_start(tmp_path):
    config = configs.load(ROOT / "configs" / "demo.py")
    startup.make_workdir(tmp_path / "a" / "b")
    for step in (0, 40):
        startup.save_provenance(tmp_path / "a" / "b", config, step)
    starts = json.loads((tmp_path / "a" / "b" / "run.json").read_text())["starts"]
    assert [entry["start_step"] for entry in starts] == [0, 40]
    assert configs.from_json(json.dumps(starts[1]["config"])) == config
    assert (
        starts[0]["command"] == sys.argv
        and "jax" in starts[0]["packages"]
        and starts[0]["devices"]["count"] >= 1
    )
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["run.json"]


def test_what_cannot_be_written_or_read_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=f"--workdir {tmp_path}/file/run cannot be written"):
        startup.make_workdir(tmp_path / "file" / "run")
    (tmp_path / "run.json").write_text("[]")
    with pytest.raises(UserError, match=r"run\.json is not the record of a run"):
        startup.save_provenance(tmp_path, configs.load(ROOT / "configs" / "demo.py"))
