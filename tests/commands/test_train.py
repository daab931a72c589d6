"""train.py and eval.py as a user runs them: whole, killed and stopped runs, and wrong input."""

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from aia_jax.checkpoints.files import committed_steps, load_weights, read_meta
from tests.helpers.killed_run import kill_run
from tests.helpers.paths import ROOT
from tests.helpers.tiny_run import command, refused, rows, run, run_here, whole_run

# All that draws random numbers or counts classes, in the workers and in the step.
SETTINGS = (
    "data.update(resized_crop=(0.25, 1.0), color_jitter=(0.4, 0.4, 0.4, 0.1), randaugment=2)",
    "data.update(erase=0.25, balance=0.5)",
    "train.update(mixup=0.8, cutmix=1.0, videomix=1.0, mix_prob=0.9, ema_decay=0.5)",
    "train.update(label_smoothing=0.1, class_weights='inverse')",
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nobody disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    return whole_run(folder, "--config.log.tensorboard=true", settings=SETTINGS)


def leaves(workdir: Path, step: int) -> dict[str, dict]:
    return json.loads((workdir / "checkpoints" / str(step) / "leaves" / "metadata").read_bytes())


def covered_steps(workdir: Path) -> list[int]:
    """The steps that the training rows of metrics.jsonl average, in their order."""
    training = [row for row in rows(workdir) if row["split"] == "train"]
    return [
        step for row in training for step in range(row["step"] - row["steps"] + 1, row["step"] + 1)
    ]


def validations(workdir: Path) -> list[dict]:
    return [row for row in rows(workdir) if row["split"] == "validation"]


def assert_same_run(workdir: Path, reference: Path) -> None:
    """Every number of the state, bit for bit, and every row that was logged."""
    last = committed_steps(reference / "checkpoints")[-1]
    assert committed_steps(workdir / "checkpoints")[-1] == last
    ours, theirs = (load_weights(folder / "checkpoints") for folder in (workdir, reference))
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    # Digests of momentum and all the rest too.
    assert leaves(workdir, last) == leaves(reference, last)
    assert rows(workdir) == rows(reference)


def test_a_run_leaves_all_that_is_promised(whole):
    _, workdir, done = whole
    for name in ("metrics.jsonl", "curves.png", "run.json", "checkpoints", "tensorboard"):
        assert (workdir / name).exists(), name
    assert [row["step"] for row in validations(workdir)] == [4, 8, 12]
    assert all(row["evaluated"] == row["expected"] == 9 for row in validations(workdir))
    assert covered_steps(workdir) == list(range(1, 13))
    assert {round(row["lr"], 6) for row in rows(workdir) if row["split"] == "train"} == {
        0.05,
        0.005,
    }
    measured = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    shares = [
        row[name]
        for row in measured
        if "steps_per_s" in row
        for name in ("data_wait", "device_idle")
    ]
    assert shares and all(0 <= share <= 1 for share in shares)
    meta = read_meta(workdir / "checkpoints", 12)
    assert (
        meta["class_names"] == ["moving left", "moving right", "standing"]
        and meta["position"] == 12
    )
    assert (
        "18 videos" in done.stdout
        and "3 classes" in done.stdout
        and "4 an epoch × 3 = 12" in done.stdout
    )


def test_eval_reports_the_validation_of_the_step_it_takes(whole):
    recipe, workdir, _ = whole
    done = run_here("eval.py", recipe, workdir, "--step", "latest", "--config.eval.batch_size=5")
    assert done.returncode == 0, done.stderr
    report = json.loads((workdir / "eval.json").read_text())
    logged = next(
        row for row in rows(workdir) if row["split"] == "validation" and row["step"] == 12
    )
    assert report["step"] == 12 and report["evaluated"] == report["expected"] == 9
    assert report["top5"] == 1.0  # three classes: top-5 is clamped to them
    assert report["top1"] == logged["top1"] and report["loss"] == pytest.approx(
        logged["loss"], rel=1e-5
    )
    assert f"{report['top1']:.2%}" in done.stdout

    longer = run_here(
        "eval.py", recipe, workdir, "--config.data.num_frames=6", "--config.eval.protocol=twice"
    )
    assert (
        longer.returncode == 0 and "trained with 4 frames a clip, tested with 6" in longer.stdout
    ), longer.stderr


def test_killed_at_any_moment_the_run_ends_as_if_it_had_never_been(whole, tmp_path):
    recipe, reference, _ = whole
    workdir = tmp_path / "run"
    kill_run(recipe, workdir, "--config.train.checkpoint_every=3", times=3)
    done = run_here("train.py", recipe, workdir, "--config.train.checkpoint_every=3")
    assert done.returncode == 0, done.stderr
    last = committed_steps(reference / "checkpoints")[-1]
    assert leaves(workdir, last) == leaves(reference, last)
    assert covered_steps(workdir) == list(range(1, 13))
    assert validations(workdir) == validations(reference)


def test_sigterm_saves_and_the_same_command_goes_on(whole, tmp_path):
    recipe, reference, _ = whole
    workdir = tmp_path / "run"
    process = subprocess.Popen(
        command("train.py", recipe, workdir),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    said = iter(process.stdout)
    assert any("starting: the first step" in line for line in said), process.stderr.read()
    process.send_signal(signal.SIGTERM)  # while it compiles
    _, err = process.communicate(timeout=120)
    assert process.returncode == 75, err
    step = committed_steps(workdir / "checkpoints")[-1]
    assert f"stopped: after step {step}, saved" in err
    done = run("train.py", recipe, workdir)
    assert done.returncode == 0, done.stderr
    assert leaves(workdir, 12) == leaves(reference, 12)
    again = run_here("train.py", recipe, workdir)  # a finished run is left as it is
    assert again.returncode == 0 and leaves(workdir, 12) == leaves(reference, 12), again.stderr


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_step(whole, tmp_path):
    recipe, reference, _ = whole
    workdir = tmp_path / "run"
    subprocess.run(["cp", "-r", reference, workdir], check=True)
    done = run_here(
        "train.py",
        recipe,
        workdir,
        "--config.train.epochs=4",
        "--config.optim.lr=1e30",
        "--config.optim.clip_norm=0",
    )
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert (
        "at step 1" in line
        and "train_" in line
        and "last good checkpoint is step 12" in line
        and "optim.lr" in line
    )
    assert "Traceback" not in done.stderr
    assert committed_steps(workdir / "checkpoints")[-1] == 12 and leaves(workdir, 12) == leaves(
        reference, 12
    )


def start_hosts(recipe, workdir, *overrides):
    """Starts train.py in two processes, each with half of every batch."""
    port = random.Random(os.getpid()).randrange(20000, 40000)
    variables = {
        "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
        "JAX_NUM_PROCESSES": "2",
        "JAX_PLATFORMS": "cpu",
    }
    return [
        subprocess.Popen(
            command("train.py", recipe, workdir, *overrides),
            env=os.environ | variables | {"JAX_PROCESS_ID": str(index)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]


def test_two_hosts_train_as_one(whole, tmp_path):
    """Two processes reach the losses of one, which differ by the order of sums.

    Of three classes top-5 is always 1, so the second validation is no better and ends the run early
    on both hosts. Started again they take no step.
    """
    recipe, reference, _ = whole
    workdir = tmp_path / "run"
    settings = "epochs=9", "patience=1", "best_by=top5"
    overrides = [f"--config.train.{setting}" for setting in settings]
    for _ in range(2):
        hosts = start_hosts(recipe, workdir, *overrides)
        said = [host.communicate(timeout=300) for host in hosts]
        assert [host.returncode for host in hosts] == [0, 0], said
        assert "finished early, after step 8 of 36" in said[0][0]
    assert committed_steps(workdir / "checkpoints")[-1] == 8
    ours, theirs = rows(workdir), [row for row in rows(reference) if row["step"] <= 8]
    assert [(row["step"], row["split"]) for row in ours] == [
        (row["step"], row["split"]) for row in theirs
    ]
    for a, b in zip(ours, theirs, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=2e-3), a["step"]


def test_sigterm_stops_two_hosts_at_the_end_of_an_epoch_too(whole, tmp_path):
    """Every step ends an epoch here, so the step on which the hosts agree does."""
    recipe, _, _ = whole
    workdir = tmp_path / "run"
    hosts = start_hosts(
        recipe, workdir, "--config.train.batch_size=18", "--config.train.epochs=1000"
    )
    log = workdir / "metrics.jsonl"
    while hosts[1].poll() is None and not (log.exists() and rows(workdir)):
        time.sleep(0.05)
    hosts[1].send_signal(signal.SIGTERM)
    for host in hosts:
        _, err = host.communicate(timeout=120)
        assert host.returncode == 75, err
    step = committed_steps(workdir / "checkpoints")[-1]
    assert step < 1000 and f"stopped: after step {step}, saved" in err


def test_sharded_over_fsdp_and_time_the_run_is_the_same(whole, tmp_path):
    recipe, reference, _ = whole
    done = run(
        "train.py",
        recipe,
        tmp_path / "run",
        "--config.mesh.fsdp=2",
        "--config.mesh.time=2",
        "--config.train.epochs=1",
        "--config.data.num_classes=0",  # the data say how many
        "--config.data.resize=short16",  # as the frames are stored
        XLA_FLAGS="--xla_force_host_platform_device_count=4",
    )
    assert done.returncode == 0, done.stderr
    assert "data 1 × fsdp 2 × time 2" in done.stdout
    ours = rows(tmp_path / "run")
    for a, b in zip(ours, rows(reference), strict=False):
        assert a["loss"] == pytest.approx(b["loss"], rel=2e-3), a["step"]


def test_another_network_or_another_place_in_the_data_is_refused_and_other_frames_are_not(
    whole, tmp_path
):
    recipe, reference, _ = whole
    workdir = tmp_path / "run"
    subprocess.run(["cp", "-r", reference, workdir], check=True)
    refused(
        run_here("train.py", recipe, workdir, "--config.model.attention=ST"),
        "config key model.attention: the run in this workdir has C, now it is ST",
        "another --workdir",
    )
    refused(
        run_here("train.py", recipe, workdir, "--config.train.batch_size=6"),
        "train.batch_size",
        "4",
        "6",
    )
    # The variables of TSN and TSM have the same shapes, and the run is finished.
    refused(run_here("train.py", recipe, workdir, "--config.model.temporal=tsm"), "temporal", "tsn")
    refused(run_here("eval.py", recipe, workdir, "--config.model.attention=ST"), "attention")
    done = run_here(
        "train.py", recipe, workdir, "--config.data.num_frames=3", "--config.train.epochs=4"
    )
    assert done.returncode == 0 and "data.num_frames was 4" in done.stdout, done.stderr
    assert committed_steps(workdir / "checkpoints")[-1] == 16


def test_a_flipped_byte_in_the_latest_checkpoint_offers_the_one_before(whole, tmp_path):
    recipe, reference, _ = whole
    workdir = tmp_path / "run"
    subprocess.run(["cp", "-r", reference, workdir], check=True)
    files = [path for path in (workdir / "checkpoints" / "12").rglob("*") if path.is_file()]
    largest = max(files, key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)
    refused(run_here("train.py", recipe, workdir), "step 12 is damaged", "--resume_from=8")
    done = run_here("train.py", recipe, workdir, "--resume_from=8")
    assert done.returncode == 0, done.stderr
    assert_same_run(workdir, reference)


def test_a_full_disk_keeps_the_last_good_step_and_says_so(whole, tmp_path):
    """A file size limit below that of a checkpoint's files stands for a full disk."""
    recipe, reference, _ = whole
    workdir = tmp_path / "run"
    subprocess.run(["cp", "-r", reference, workdir], check=True)
    line = " ".join(command("train.py", recipe, workdir, "--config.train.epochs=4"))
    done = subprocess.run(
        ["bash", "-c", f"ulimit -f 12; exec {line}"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=300,
    )
    assert done.returncode == 1, done.stderr
    # The storage library's threads may complain too.
    (ours,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert ours.startswith("error: saving step 16") and "step 12 is the last good one" in ours
    assert run_here("eval.py", recipe, workdir, "--step", "latest").returncode == 0
