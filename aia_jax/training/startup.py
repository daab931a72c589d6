"""What a run says about itself before its first step: a table for the eye, run.json for later."""

import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict
from rich.console import Console
from rich.table import Table

from aia_jax import config as configs
from aia_jax.errors import UserError
from aia_jax.sharding import row_shards

RUN_FILE = "run.json"
_PACKAGES = ("aia_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "opencv-python-headless", "simplejpeg")


def make_workdir(workdir: Path) -> None:
    """Creates the run's folder and checks that files can be written to it.

    Raises:
        UserError: if not; says why.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        probe = workdir / f".write_test_{os.getpid()}"
        probe.write_bytes(b"x")
        probe.unlink()
    except OSError as error:
        raise UserError(f"--workdir {workdir} cannot be written: {error.strerror}; name another with --workdir") from error


def start_table(
    config: ConfigDict,
    *,
    found: Mapping[str, int],
    classes: int,
    params: int,
    macs: int,
    mesh: Mesh,
    steps_per_epoch: int,
    start_step: int = 0,
    compile_cache: str = "off",
) -> Table:
    """What the run is, in one table to print.

    Args:
        config: the run's.
        found: videos in the training and validation split, by the split's name.
        classes: that the data set names.
        params: numbers in the model's parameters.
        macs: multiply-adds of one clip.
        mesh: of all devices.
        steps_per_epoch: optimiser steps.
        start_step: last finished step of a run that goes on.
        compile_cache: what `use_compile_cache` says.
    """
    data, model, optim, train = config.data, config.model, config.optim, config.train
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")

    expected = {data.train_split: data.expected.train, data.val_split: data.expected.validation}
    table.add_row("data", f"{data.name} in {data.dir}")
    for split in (data.train_split, data.val_split):
        of = f" of {expected[split]:,} expected" if expected[split] else ""
        missing = f", {expected[split] - found[split]:,} missing" if expected[split] > found[split] else ""
        table.add_row("", f"{split}: {found[split]:,} videos{of}{missing}")
    table.add_row("", f"{classes} classes")

    depth = f"ResNet-{model.depth}" if not model.stage_sizes else f"ResNet with stages of {'-'.join(map(str, model.stage_sizes))} blocks"
    attention = "" if model.attention == "none" else f" with {model.attention}"
    table.add_row("model", f"{model.temporal.upper()}{attention}, {depth}, {model.compute_dtype}")
    clip = f"{data.num_frames}×{data.crop}×{data.crop}"
    table.add_row("", f"{params:,} parameters, {macs / 1e9:.4g} G multiply-adds a clip ({clip})")

    devices = mesh.devices.flatten()
    hosts = len({device.process_index for device in devices})
    shape = " × ".join(f"{axis} {length}" for axis, length in mesh.shape.items())
    table.add_row("devices", f"{devices.size} × {devices[0].device_kind} on {hosts} host{'s' * (hosts > 1)}; mesh {shape}")
    parts = f", in {train.accumulate} parts" if train.accumulate > 1 else ""
    groups = f"; BatchNorm over groups of {train.bn_group_size}" if train.bn_group_size else ""
    table.add_row("batch", f"{train.batch_size} clips, {train.batch_size // row_shards(mesh)} a device{parts}{groups}")
    rate = optim.lr * train.batch_size / optim.lr_batch_size
    table.add_row("LR", f"{rate:.4g} (the recipe's {optim.lr:g} is for batch {optim.lr_batch_size})")
    total = steps_per_epoch * train.epochs
    resumed = f"; going on after step {start_step:,}" if start_step else ""
    table.add_row("steps", f"{steps_per_epoch:,} an epoch × {train.epochs} = {total:,}{resumed}")
    table.add_row("compile cache", compile_cache)
    return table


def print_table(table: Table) -> None:
    """Prints it on process 0."""
    if jax.process_index() == 0:
        Console(highlight=False).print(table)


def save_provenance(workdir: Path, config: ConfigDict, start_step: int = 0) -> None:
    """Adds this start to run.json: time, command, resolved config, git commit, package versions, devices. Process 0 writes.

    Raises:
        UserError: if there is a run.json that is not one.
    """
    if jax.process_index():
        return
    path = workdir / RUN_FILE
    try:
        starts = json.loads(path.read_text("utf-8"))["starts"] if path.exists() else []
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not the record of a run; move it away or name another --workdir") from error
    starts.append(
        {
            "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "command": sys.argv,
            "start_step": start_step,
            "git": _git_state(),
            "python": platform.python_version(),
            "packages": {package: version for package in _PACKAGES if (version := _version(package)) is not None},
            "devices": {"kind": jax.devices()[0].device_kind, "count": jax.device_count(), "hosts": jax.process_count()},
            "config": json.loads(configs.to_json(config)),
        }
    )
    fresh = path.with_suffix(".tmp")
    with fresh.open("w", encoding="utf-8") as file:
        json.dump({"starts": starts}, file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def _git_state() -> dict[str, Any] | None:
    """Commit of this code and whether tracked files differ from it; None where the code is not in a git repository."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=20).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", Path(__file__).name)  # or an installed copy inside somebody's repository reports theirs
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.SubprocessError):
        return None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
