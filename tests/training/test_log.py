"""metrics.jsonl, TensorBoard, the progress line, curves.png and what a run says at its start."""

import math
import signal
import struct
import subprocess
import sys
import textwrap
import time

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aia_jax.training.log import TENSORBOARD_DIR, NonFiniteLoss, RunLog
from aia_jax.training.metrics_file import METRICS_FILE, read_rows
from aia_jax.training.profile import StepTime
from tests.helpers.paths import ROOT
from tests.helpers.tiny_run import CLOCK


def just_now():
    """The times of a step that takes none."""
    now = time.monotonic()
    return StepTime(now, now)


NO_WAIT = {"data_wait": 0.0, "times": just_now}


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
    from aia_jax.training.profile import StepTime
    log = RunLog(sys.argv[1], total_steps=20, steps_per_epoch=20, log_every=2, tensorboard=False)
    times = lambda: StepTime(0.0, 0.0)
    for step in range(1, 12):
        log.train(step, {"loss": 1.0 / step}, clips=1, data_wait=0.0, times=times)
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


def timed(step, handed_over, ended, data_wait=0.0):
    """What the loop says of a step of 8 clips that was computed at these seconds."""
    return step, {
        "metrics": metrics(step),
        "clips": 8,
        "data_wait": data_wait,
        "times": lambda: StepTime(float(handed_over), float(ended)),
    }


@pytest.mark.parametrize("log_every", [1, 4])
def test_a_steps_time_runs_from_the_end_of_the_one_before_to_its_own(tmp_path, log_every):
    """Steps of 2 seconds that are handed over at once, whatever the epoch's length."""
    with open_log(tmp_path, log_every=log_every, steps_per_epoch=3) as log:
        for step in range(1, 7):
            # A validation of 100 seconds lies between the epochs.
            pause = 100 if step > 3 else 0
            number, said = timed(step, 0.001 * step + 2 * 3 * (step > 3) + pause, 2 * step + pause)
            log.train(number, **said)
            if step % 3 == 0:
                log.flush()
    rows = [row for row in read_rows(tmp_path / METRICS_FILE) if row["steps"] > 1 or log_every == 1]
    first, *later = [row for row in rows if row["split"] == "train"]
    assert ("clips_per_s" in first) == (log_every > 1)  # the very first step compiles
    for row in later:
        assert row["clips_per_s"] == pytest.approx(4, rel=0.02)  # 8 clips in 2 seconds
        assert row["steps_per_s"] == pytest.approx(0.5, rel=0.02)
        assert row["device_idle"] == 0


def test_devices_that_wait_for_a_step_are_idle_and_a_validation_is_not_such_a_wait(tmp_path):
    with open_log(tmp_path, log_every=1) as log:
        for number, said in (timed(1, 0, 2), timed(2, 5, 6, data_wait=3.0)):
            log.train(number, **said)
        log.flush()
        number, said = timed(3, 100, 102, data_wait=2.0)  # after a pause
        log.train(number, **said)
    _, second, third = read_rows(tmp_path / METRICS_FILE)
    assert (second["device_idle"], second["data_wait"]) == (0.75, 0.75)  # 3 of 4 seconds
    assert (third["device_idle"], third["data_wait"]) == (0.5, 0.5)  # 2 of 4
    assert third["clips_per_s"] == 2.0


@pytest.mark.parametrize(("wait", "told"), [(10.0, 1), (0.0, 0)])  # seconds of a step's 10
def test_that_the_input_is_the_bottleneck_is_said_once_after_the_first_epoch(
    tmp_path, capsys, wait, told
):
    with open_log(tmp_path) as log:
        for steps in (range(1, 16), range(16, 61)):
            assert "bottleneck" not in capsys.readouterr().out
            for step in steps:
                ended = 10.0 * step
                number, said = timed(step, ended - 10 + wait, ended, data_wait=wait)
                log.train(number, **said)
            log.flush()
    said = capsys.readouterr().out
    assert (
        said.count(
            "input is the bottleneck: steps 16 to 16 waited for data for 100% of their time "
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
