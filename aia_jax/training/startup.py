"""What a run says and checks before its first step: a table, run.json, its own checkpoint."""

import datetime
import importlib.metadata
import json
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
from aia_jax.checkpoints.ranking import choose_metric, metric_name
from aia_jax.data.plan import min_train_frames
from aia_jax.errors import UserError
from aia_jax.files import atomic_file
from aia_jax.json_file import JsonError, parse_json
from aia_jax.sharding import row_shards
from aia_jax.shards.damage_log import allowed_damaged
from aia_jax.training.mixing import describe_mix
from aia_jax.training.objective import describe_loss
from aia_jax.training.optimizer import describe_optimizer
from aia_jax.training.schedules import describe_schedule

RUN_FILE = "run.json"
_FIRST_WEIGHTS = 0.05  # the share of them in a moving average that a note tells of
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


def start_table(
    config: ConfigDict,
    *,
    network: str,
    method: str,
    clip_shape: Sequence[int],
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
        method: the way to train in words (`Method.text`).
        clip_shape: [T, H, W, 3] of a clip.
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
        allowed = allowed_damaged(found[split], data.damaged_share)
        text += f"; {f'up to {allowed:,}' if allowed else 'none'} may be damaged"
        table.add_row("", text)
    table.add_row("", f"{classes} classes")

    table.add_row("model", f"{network}, {config.model.compute_dtype}")
    clip = "×".join(map(str, clip_shape[:3]))
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
    table.add_row("method", method)
    table.add_row("loss", describe_loss(config))
    if mixes := describe_mix(train):
        table.add_row("mixed clips", mixes)
    rate = optim.lr * train.batch_size / optim.lr_batch_size
    table.add_row("optimiser", describe_optimizer(optim))
    table.add_row(
        "LR",
        f"{rate:.4g} (the recipe's {optim.lr:g} is for batch {optim.lr_batch_size}), "
        f"{describe_schedule(optim)}",
    )
    groups = [
        f"LR × {factors.get('lr', 1):g}, decay × {factors.get('decay', 1):g}: {pattern}"
        for pattern, factors in optim.groups
    ]
    table.add_row("parameters", "\n".join(groups))
    total = steps_per_epoch * train.epochs
    resumed = f"; going on after step {start_step:,}" if start_step else ""
    every = f"; validation every {train.val_every:,} epochs" if train.val_every > 1 else ""
    steps = f"{steps_per_epoch:,} an epoch × {train.epochs} = {total:,}{every}{resumed}"
    table.add_row("steps", steps)
    best_by = metric_name(choose_metric(train.best_by, data.label_kind))
    if train.patience:
        several = "validations" if train.patience > 1 else "validation"
        best_by += f"; ends early after {train.patience:,} {several} without a better one"
    table.add_row("best by", best_by)
    table.add_row("compile cache", compile_cache)
    return table


def notes_on_plan(
    config: ConfigDict, too_short: int, segment_frames: int, total_steps: int, old_share: float
) -> list[str]:
    """What a run will not do though the config or the data may suggest it.

    Args:
        config: the run's.
        too_short: training videos that have too few frames to train on.
        segment_frames: consecutive frames of a segment.
        total_steps: at which the run ends.
        old_share: of the method (`Method.old_share`).
    """
    notes = []
    if (first := old_share**total_steps) > _FIRST_WEIGHTS:
        notes.append(
            f"at the last of {total_steps:,} steps {first:.0%} of the moving average that is "
            "tested are its first weights: lower its decay (svmix.ema_decay, train.ema_decay), or "
            "train longer"
        )
    if too_short:
        least = min_train_frames(segment_frames)
        notes.append(f"{too_short} training videos have fewer than {least} frames and are not used")
    if config.optim.warmup_epochs >= config.train.epochs:
        notes.append(
            f"the learning rate only rises: optim.warmup_epochs={config.optim.warmup_epochs:g} of "
            f"train.epochs={config.train.epochs}"
        )
    if config.profile.start > total_steps:
        notes.append(
            f"nothing will be traced: profile.start={config.profile.start} is past the last step, "
            f"{total_steps}"
        )
    return notes


def print_table(table: Table) -> None:
    """Prints it on process 0."""
    if jax.process_index() == 0:
        Console(highlight=False, markup=False).print(table)


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
        starts = (
            parse_json(path.read_bytes(), dict, file_names=True)["starts"] if path.exists() else []
        )
        if not isinstance(starts, list):
            raise JsonError("starts: expected a list")
    except (JsonError, KeyError) as error:
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
