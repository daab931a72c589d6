"""`prepare_data.py --scheduler`: a real Dask scheduler and two worker processes on loopback, one of
which is killed half-way.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from aia_jax.errors import exit_status
from aia_jax.prepare.command import main
from tests.helpers.paths import ROOT
from tests.helpers.raw_videos import numbered_frames, write_video

VIDEOS = 48


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """The command takes SIGTERM and SIGINT; here it runs inside the tests' process."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen]]:
    processes = []
    yield processes
    for process in processes:
        process.kill()
        process.wait()


def start(
    processes: list[subprocess.Popen], folder: Path, program: str, *arguments: str
) -> subprocess.Popen:
    words = [
        sys.executable,
        "-m",
        f"distributed.cli.dask_{program}",
        "--scheduler-file",
        str(folder / "scheduler.json"),
        *arguments,
    ]
    environment = os.environ | {"DASK_DISTRIBUTED__ADMIN__LOG_FORMAT": "%(message)s"}
    quiet = (folder / f"{program}{len(processes)}.log").open("wb")
    processes.append(subprocess.Popen(words, cwd=ROOT, env=environment, stdout=quiet, stderr=quiet))
    return processes[-1]


def arguments(raw: Path, out: Path, *options: str) -> list[str]:
    return [
        "folders",
        "--raw",
        str(raw),
        "--out",
        str(out),
        "--size",
        "24x32",
        "--videos-per-shard",
        "1",
        *options,
    ]


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a_worker_dies_and_the_result_is_the_same(tmp_path, started):
    first = write_video(tmp_path / "raw" / "a" / "0.mp4", numbered_frames(40, 96, 128))
    for number in range(1, VIDEOS):
        place = tmp_path / "raw" / "ab"[number % 2] / f"{number}.mp4"
        place.parent.mkdir(exist_ok=True)
        shutil.copy(first, place)
    (tmp_path / "raw" / "b" / "empty.mp4").touch()
    start(started, tmp_path, "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
    one = (
        "--nworkers",
        "1",
        "--nthreads",
        "1",
        "--no-nanny",
        "--no-dashboard",
        "--local-directory",
        str(tmp_path),
    )
    workers = [start(started, tmp_path, "worker", *one) for _ in range(2)]
    while not (tmp_path / "scheduler.json").is_file() or not (
        content := (tmp_path / "scheduler.json").read_text()
    ):
        time.sleep(0.05)
    address = content.split('"address": "')[1].split('"')[0]
    assert address.startswith("tcp://127.0.0.1:")

    out = tmp_path / "cluster"
    command = [
        sys.executable,
        "prepare_data.py",
        *arguments(tmp_path / "raw", out, "--scheduler", address),
    ]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    while len(list((out / ".prepare").glob("*.tfrecord-*.json"))) < VIDEOS // 4:
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.002)
    workers[0].kill()
    half_way = len(list((out / ".prepare").glob("*.tfrecord-*.json")))
    said = process.communicate()[0]
    assert VIDEOS // 4 <= half_way < VIDEOS, "the worker was to die in the middle"
    assert process.returncode == 1, said
    assert "error: 1 of 49 videos could not be read" in said
    assert main(arguments(tmp_path / "raw", tmp_path / "local", "--workers", "1")) == 1
    assert files(out) == files(tmp_path / "local")


def test_no_scheduler_at_the_address(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("aia_jax.prepare.cluster._SECONDS", 1)
    write_video(tmp_path / "raw" / "a" / "0.mp4", numbered_frames(3, 24, 32))
    for address in ("tcp://127.0.0.1:1", "nonsense://x", "127.0.0.1:x"):
        assert (
            exit_status(
                lambda at=address: main(
                    arguments(tmp_path / "raw", tmp_path / "out", "--scheduler", at)
                )
            )
            == 2
        )
        assert (
            f"error: --scheduler {address}: no Dask scheduler answers there"
            in capsys.readouterr().err
        )
    assert not (tmp_path / "out").exists(), "nothing was done"


def test_dask_is_not_installed(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    write_video(tmp_path / "raw" / "a" / "0.mp4", numbered_frames(3, 24, 32))
    assert (
        exit_status(
            lambda: main(
                arguments(tmp_path / "raw", tmp_path / "out", "--scheduler", "tcp://127.0.0.1:8786")
            )
        )
        == 2
    )
    assert "--scheduler needs Dask, which is not installed: pip install" in capsys.readouterr().err
