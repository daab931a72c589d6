"""Runs of train.py that SIGKILL ends at random moments."""

import random
import signal
import subprocess
import time
from pathlib import Path

from tests.helpers.tiny_run import command


def kill_run(recipe: Path, workdir: Path, *overrides: str, times: int) -> None:
    """Starts the run again and again, and kills it a moment after it has logged steps.

    The last step may be done by then, but not in the first one.
    """
    chance, metrics = random.Random(0), workdir / "metrics.jsonl"

    def logged() -> int:
        return len(metrics.read_text().splitlines()) if metrics.exists() else 0

    for number in range(times):
        process = subprocess.Popen(
            command("train.py", recipe, workdir, *overrides),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        before, deadline = logged(), time.monotonic() + 120
        while process.poll() is None and logged() <= before and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(chance.uniform(0, 0.3))
        process.kill()
        process.wait()
        assert number or process.returncode == -signal.SIGKILL
