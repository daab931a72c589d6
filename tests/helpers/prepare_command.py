"""Runs `prepare_data.py` on small videos, in this process or in one that a test can kill."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.helpers.paths import ROOT


def arguments(raw: Path, out: Path, *options: str) -> list[str]:
    """A command line for a folder a class: one worker, small frames, two videos a shard."""
    words = ["folders", "--raw", str(raw), "--out", str(out), "--size", "24x32"]
    return [*words, "--workers", "1", "--videos-per-shard", "2", *options]


def start_command(raw: Path, out: Path, *options: str, **popen) -> subprocess.Popen:
    words = [sys.executable, "prepare_data.py", *arguments(raw, out, *options)]
    return subprocess.Popen(words, cwd=ROOT, **popen)


def read_files(folder: Path) -> dict[str, bytes]:
    """The content of all files below a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def wait_for(process: subprocess.Popen, happened: Callable[[], bool]) -> None:
    """Waits until something has happened while the command runs."""
    while not happened():
        assert process.poll() is None, "the command ended too early"
        time.sleep(0.001)
