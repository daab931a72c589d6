"""`prepare_data.py --scheduler`: a real Dask cluster on this machine, one of whose workers dies."""

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aia_jax.errors import exit_status
from aia_jax.prepare.command import main
from tests.helpers.paths import ROOT
from tests.helpers.prepare_command import arguments, read_files
from tests.helpers.raw_videos import numbered_frames, write_video

VIDEOS = 48
ONE_A_SHARD = ("--videos-per-shard", "1")


@pytest.fixture
def start_dask(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen]]:
    """Starts programs of Dask, which are killed after the test."""
    processes = []

    def start(program: str, *options: str) -> subprocess.Popen:
        words = [sys.executable, "-m", f"distributed.cli.dask_{program}", "--no-dashboard"]
        words += ["--scheduler-file", str(tmp_path / "scheduler.json"), *options]
        environment = os.environ | {"DASK_DISTRIBUTED__ADMIN__LOG_FORMAT": "%(message)s"}
        with (tmp_path / f"{program}{len(processes)}.log").open("wb") as log:
            processes.append(
                subprocess.Popen(words, cwd=ROOT, env=environment, stdout=log, stderr=log)
            )
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.wait()


def test_a_worker_dies_and_the_result_is_the_same(tmp_path, start_dask, capfd):
    start_dask("scheduler", "--host", "127.0.0.1", "--port", "0")
    options = ("--nworkers", "1", "--nthreads", "1", "--no-nanny")
    workers = [start_dask("worker", *options, "--local-directory", str(tmp_path)) for _ in range(2)]
    raw, out = tmp_path / "raw", tmp_path / "cluster"
    first = write_video(raw / "a" / "0.mp4", numbered_frames(40, 96, 128))
    for number in range(1, VIDEOS):
        copy = raw / "ab"[number % 2] / f"{number}.mp4"
        copy.parent.mkdir(exist_ok=True)
        shutil.copy(first, copy)
    (raw / "b" / "empty.mp4").touch()
    local = arguments(raw, tmp_path / "local", *ONE_A_SHARD, "--workers", "2")
    assert main(local) == 1
    while not (tmp_path / "scheduler.json").is_file() or not (
        content := (tmp_path / "scheduler.json").read_text()
    ):
        time.sleep(0.05)
    address = content.split('"address": "')[1].split('"')[0]
    assert address.startswith("tcp://127.0.0.1:")

    finished_at_death, ended = [], threading.Event()

    def kill_half_way() -> None:
        while not ended.is_set():
            if (finished := count_finished(out)) >= VIDEOS // 4:
                workers[0].kill()
                finished_at_death.append(finished)
                return
            time.sleep(0.002)

    killer = threading.Thread(target=kill_half_way)
    killer.start()
    try:
        capfd.readouterr()
        status = main(arguments(raw, out, *ONE_A_SHARD, "--scheduler", address))
    finally:
        ended.set()
        killer.join()
    assert status == 1
    assert "error: 1 of 49 videos could not be read" in capfd.readouterr().err
    assert finished_at_death and finished_at_death[0] < VIDEOS, (
        "the worker was to die in the middle"
    )
    assert read_files(out) == read_files(tmp_path / "local")


def count_finished(out: Path) -> int:
    return len(list((out / ".prepare").glob("*.tfrecord-*.json")))


def test_no_scheduler_at_the_address(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("aia_jax.prepare.cluster._CONNECT_SECONDS", 1)
    write_video(tmp_path / "raw" / "a" / "0.mp4", numbered_frames(3, 24, 32))
    for address in ("tcp://127.0.0.1:1", "nonsense://x", "127.0.0.1:x"):
        words = arguments(tmp_path / "raw", tmp_path / "out", "--scheduler", address)
        assert exit_status(lambda words=words: main(words)) == 2
        said = capsys.readouterr().err
        assert f"error: --scheduler {address}: no Dask scheduler answers there" in said
    assert not (tmp_path / "out").exists(), "nothing was done"


def test_dask_is_not_installed(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    write_video(tmp_path / "raw" / "a" / "0.mp4", numbered_frames(3, 24, 32))
    words = arguments(tmp_path / "raw", tmp_path / "out", "--scheduler", "tcp://127.0.0.1:8786")
    assert exit_status(lambda: main(words)) == 2
    assert "--scheduler needs Dask, which is not installed: pip install" in capsys.readouterr().err
