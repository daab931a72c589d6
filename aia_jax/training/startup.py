"""What a run says and checks before its first step: a table, run.json, its own checkpoint."""

import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict
from rich.console import Console
from rich.table import Table

from aia_jax import config as configs
from aia_jax.errors import UserError
from aia_jax.files import atomic_file
from aia_jax.sharding import row_shards

RUN_FILE = "run.json"
_PACKAGES = (
    "aia_jax",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "grain",
    "numpy",
    "opencv-python-headless",
    "simplejpeg",
)


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
        raise UserError(
            f"--workdir {workdir} cannot be written: {error.strerror}; name another with --workdir"
        ) from error


def start_table(
    config: ConfigDict,
    *,
    network: str,
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
        network: the network in words (`model.describe()`).
        found: videos in the training and validation split, by the split's name.
        classes: classes that the data set names.
        params: numbers in the network's parameters.
        macs: multiply-adds of one clip.
        mesh: all devices.
        steps_per_epoch: optimiser steps.
        start_step: last finished step of a run that goes on.
        compile_cache: what `use_compile_cache` says.
    """
    data, optim, train = config.data, config.optim, config.train
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")

    expected = {data.train_split: data.expected.train, data.val_split: data.expected.validation}
    table.add_row("data", f"{data.name} in {data.dir}")
    for split in (data.train_split, data.val_split):
        text = f"{split}: {found[split]:,} videos"
        if expected[split]:
            text += f" of {expected[split]:,} expected"
        if expected[split] > found[split]:
            text += f", {expected[split] - found[split]:,} missing"
        table.add_row("", text)
    table.add_row("", f"{classes} classes")

    table.add_row("model", f"{network}, {config.model.compute_dtype}")
    clip = f"{data.num_frames}×{data.crop}×{data.crop}"
    table.add_row("", f"{params:,} parameters, {macs / 1e9:.4g} G multiply-adds a clip ({clip})")
    if config.paper:
        table.add_row("the paper's", config.paper)

    devices = mesh.devices.flatten()
    hosts = len({device.process_index for device in devices})
    shape = " × ".join(f"{axis} {length}" for axis, length in mesh.shape.items())
    table.add_row(
        "devices",
        f"{devices.size} × {devices[0].device_kind} on {hosts} host{'s' * (hosts > 1)}; mesh "
        f"{shape}",
    )
    parts = f", in {train.accumulate} parts" if train.accumulate > 1 else ""
    groups = f"; BatchNorm over groups of {train.bn_group_size}" if train.bn_group_size else ""
    table.add_row(
        "batch",
        f"{train.batch_size} clips, {train.batch_size // row_shards(mesh)} a device{parts}{groups}",
    )
    rate = optim.lr * train.batch_size / optim.lr_batch_size
    table.add_row(
        "LR", f"{rate:.4g} (the recipe's {optim.lr:g} is for batch {optim.lr_batch_size})"
    )
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
    """Adds this start to run.json; process 0 writes.

    An entry has time, command, resolved config, git commit, package versions and devices.

    Raises:
        UserError: if there is a run.json that is not one.
    """
    if jax.process_index():
        return
    path = workdir / RUN_FILE
    try:
        starts = json.loads(path.read_text("utf-8"))["starts"] if path.exists() else []
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is not the record of a run; move it away or name another --workdir"
        ) from error
    starts.append(
        {
            "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "command": sys.argv,
            "start_step": start_step,
            "git": _git_state(),
            "python": platform.python_version(),
            "packages": {
                package: version
                for package in _PACKAGES
                if (version := _version(package)) is not None
            },
            "devices": {
                "kind": jax.devices()[0].device_kind,
                "count": jax.device_count(),
                "hosts": jax.process_count(),
            },
            "config": json.loads(configs.to_json(config)),
        }
    )
    with atomic_file(path, "w") as file:
        json.dump({"starts": starts}, file, indent=2)


def _git_state() -> dict[str, Any] | None:
    """Commit of this code, and whether tracked files differ from it.

    None where git does not track this file: an installed copy may lie in somebody else's
    repository, whose commit says nothing.
    """

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=20)
        return done.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", Path(__file__).name)
        return {
            "commit": git("rev-parse", "HEAD"),
            "dirty": bool(git("status", "--porcelain", "--untracked-files=no")),
        }
    except (OSError, subprocess.SubprocessError):
        return None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


# A checkpoint's step counts batches. Another value of these fields gives other batches, so the same
# step would be another position in the data.
_POSITION = ("seed", "train.batch_size", "data.train_split", "data.label")

# These fields say where and how fast the run computes. They do not change what it computes, so the
# run may go on with other values, and no note says so.
_FREE = (
    "data.dir",
    "data.workers",
    "data.threads",
    "data.prefetch",
    "data.expected",
    "paper",
    "init_from",
    "compile_cache",
    "train.remat",
    "train.log_every",
    "log",
    "profile",
    "mesh",
    "eval",
)


def compare_with_checkpoint(
    config: ConfigDict, class_names: Sequence[str], meta: Mapping[str, Any]
) -> list[str]:
    """Compares a run's config and classes with those its checkpoint was saved with.

    Returns:
        One text for each difference that changes the rest of the run, for the user to see.

    Raises:
        UserError: a difference with which the run cannot go on exactly.
    """
    saved = configs.from_json(meta["config"])
    if list(meta["class_names"]) != list(class_names):
        raise UserError(
            f"data.dir {config.data.dir} names {len(class_names)} classes that are not the "
            f"{len(meta['class_names'])} of the checkpoint "
            f"({_first_difference(meta['class_names'], class_names)}); use the data of the run, or "
            "another --workdir"
        )
    notes = []
    for key, (before, now) in _differences(saved, config).items():
        if key in _POSITION:
            raise UserError(
                f"config key {key}: the run in this workdir has {before!r}, now it is {now!r}, and "
                "its position in the data would be lost; set it back, or start in another "
                "--workdir with --config.init_from"
            )
        if not any(key == free or key.startswith(f"{free}.") for free in _FREE):
            notes.append(f"{key} was {before!r} up to here and is {now!r} from here on")
    return notes


def _differences(saved: Any, config: Any, prefix: str = "") -> dict[str, tuple[Any, Any]]:
    found = {}
    for key in sorted(set(saved) | set(config)):
        before, now = saved.get(key), config.get(key)
        if isinstance(before, ConfigDict) and isinstance(now, ConfigDict):
            found |= _differences(before, now, f"{prefix}{key}.")
        elif before != now:
            found[f"{prefix}{key}"] = (before, now)
    return found


def _first_difference(before: Sequence[str], now: Sequence[str]) -> str:
    for k, (a, b) in enumerate(zip(before, now, strict=False)):
        if a != b:
            return f"class {k} was {a!r} and is {b!r}"
    return "the first ones agree"
