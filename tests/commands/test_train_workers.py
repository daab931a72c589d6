"""train.py whose data worker is stopped: it still saves when it is asked to stop."""

import os
import signal
import subprocess
import time
from pathlib import Path

from aia_jax.checkpoints.files import committed_steps
from tests.helpers.tiny_run import command, make_recipe


def workers_of(pid: int) -> list[int]:
    """The worker processes of a process; the one that tracks its resources is none."""
    found = subprocess.run(
        ["pgrep", "-P", str(pid), "-f", "spawn_main"], capture_output=True, text=True, check=False
    )
    return [int(line) for line in found.stdout.split()]


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_sigterm_is_heard_while_a_worker_is_stopped(tmp_path: Path):
    recipe, workdir = make_recipe(tmp_path), tmp_path / "run"
    options = ("--config.data.workers=2", "--config.train.epochs=4000")
    process = subprocess.Popen(
        command("train.py", recipe, workdir, *options, "--config.train.val_every=4000"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    metrics = workdir / "metrics.jsonl"
    while process.poll() is None and not (metrics.exists() and metrics.stat().st_size):
        time.sleep(0.05)
    workers = workers_of(process.pid)
    assert len(workers) == 2
    os.kill(workers[0], signal.SIGSTOP)
    time.sleep(1)  # the batches that are ready are used up
    process.terminate()
    _, err = process.communicate(timeout=100)
    assert process.returncode == 75, err
    step = committed_steps(workdir / "checkpoints")[-1]
    assert err == f"stopped: after step {step}, saved; run the same command again to go on\n"
    assert not any(map(is_running, workers))
