"""Opens a trained run by its folder alone: its checkpoint holds config, classes and weights."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
from flax import linen as nn
from ml_collections import ConfigDict

from aia_jax import config as configs
from aia_jax.checkpoints.files import (
    best_step,
    check_model,
    committed_steps,
    load_weights,
    read_meta,
)
from aia_jax.errors import UserError
from aia_jax.models import model_from_config
from aia_jax.shards.manifest import MANIFEST

CHECKPOINTS = "checkpoints"  # folder of a run's workdir


@dataclass(frozen=True)
class TrainedRun:
    """One checkpoint of a run.

    Attributes:
        workdir: the run's folder.
        step: of the checkpoint.
        config: the config with which the run was trained.
        class_names: by label.
        metrics: of the validation at that step; empty if there was none.
        model: the network.
        variables: {"params", "batch_stats"}, NumPy leaves; the moving average if the run has one.
    """

    workdir: Path
    step: int
    config: ConfigDict
    class_names: tuple[str, ...]
    metrics: Mapping[str, Any]
    model: nn.Module
    variables: Mapping[str, Any]

    @property
    def clip_shape(self) -> tuple[int, int, int, int]:
        """(T, H, W, 3) of the network's input."""
        data = self.config.data
        return data.num_frames, data.crop, data.crop, 3


def choose_step(folder: Path, step: str) -> int:
    """The number of the checkpoint that `--step` asks for.

    Args:
        folder: the run's checkpoints.
        step: "best" (by validation top-1; the latest where no step has one), "latest", or a number.

    Raises:
        UserError: there is none; names those that there are.
    """
    steps = committed_steps(folder)
    if not steps:
        raise UserError(
            f"there is no checkpoint in {folder}; train first, or name the run's folder with "
            "--workdir"
        )
    if step in ("best", "latest"):
        best = best_step(folder) if step == "best" else None
        return steps[-1] if best is None else best
    if not step.isdecimal() or int(step) not in steps:
        raise UserError(
            f"--step {step}: {folder} has the steps {', '.join(map(str, steps))}; give one of "
            "them, best or latest"
        )
    return int(step)


def open_run(workdir: Path, step: str = "best") -> TrainedRun:
    """Reads a checkpoint and builds its network.

    A config that an older version saved may lack fields; they get their defaults.

    Args:
        workdir: the run's folder.
        step: see `choose_step`.

    Raises:
        UserError: no such checkpoint, or it is damaged or of another version's network.
    """
    folder = workdir / CHECKPOINTS
    number = choose_step(folder, step)
    meta = read_meta(folder, number)
    config = configs.from_json(meta["config"])
    run = TrainedRun(
        workdir=workdir,
        step=number,
        config=config,
        class_names=tuple(meta["class_names"]),
        metrics=meta.get("metrics") or {},
        model=model_from_config(config),
        variables=load_weights(folder, number),
    )
    clips = jax.ShapeDtypeStruct((1, *run.clip_shape), "float32")
    expected = jax.eval_shape(run.model.init, jax.random.key(0), clips)
    check_model(folder, number, run.variables, expected)
    return run


def read_manifest(run: TrainedRun) -> tuple[dict[str, Any], str] | None:
    """Reads the manifest of the prepared data that a run was trained on.

    Returns:
        The manifest and the SHA-256 of its file; None if the folder is gone, has no manifest, or
        holds data with other classes by now.
    """
    data = run.config.data
    try:
        content = (Path(data.dir) / MANIFEST).read_bytes()
        manifest = json.loads(content)
        class_names = tuple(manifest["class_names"][data.label])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if class_names != run.class_names:
        return None
    return manifest, hashlib.sha256(content).hexdigest()
