"""A trained run, opened by its folder alone: config, class names and weights come from the
checkpoint.
"""

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
from aia_jax.models.from_config import model_from_config
from aia_jax.prepare.write import MANIFEST


@dataclass(frozen=True)
class TrainedRun:
    """One checkpoint of a run.

    Attributes:
        workdir: the run's folder.
        step: of the checkpoint.
        config: that the run was trained with.
        class_names: by label.
        metrics: of the validation at that step; empty where there was none.
        model: the network.
        variables: {"params", "batch_stats"}, NumPy leaves; the moving average where the run kept
            one.
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


def choose_step(folder: Path, wanted: str) -> int:
    """The checkpoint that `--step` asks for.

    Args:
        folder: the run's checkpoints.
        wanted: "best" (by validation top-1; the latest where no step has one), "latest", or a step.

    Raises:
        UserError: there is none; names those that there are.
    """
    steps = committed_steps(folder)
    if not steps:
        raise UserError(
            f"there is no checkpoint in {folder}; train first, or name the run's folder with "
            "--workdir"
        )
    if wanted in ("best", "latest"):
        best = best_step(folder) if wanted == "best" else None
        return steps[-1] if best is None else best
    if not wanted.isdecimal() or int(wanted) not in steps:
        raise UserError(
            f"--step {wanted}: {folder} has the steps {', '.join(map(str, steps))}; give one of "
            "them, best or latest"
        )
    return int(wanted)


def open_run(workdir: Path, wanted: str = "best") -> TrainedRun:
    """Reads a checkpoint and builds its network.

    Args:
        workdir: the run's folder.
        wanted: see `choose_step`.

    Raises:
        UserError: no such checkpoint, or it is damaged or of another version's network.
    """
    folder = workdir / "checkpoints"
    step = choose_step(folder, wanted)
    meta = read_meta(folder, step)
    config = configs.from_json(meta["config"])
    model = model_from_config(config)
    run = TrainedRun(
        workdir,
        step,
        config,
        tuple(meta["class_names"]),
        meta.get("metrics") or {},
        model,
        load_weights(folder, step),
    )
    clips = jax.ShapeDtypeStruct((1, *run.clip_shape), "float32")
    check_model(folder, step, run.variables, jax.eval_shape(model.init, jax.random.key(0), clips))
    return run


def read_manifest(run: TrainedRun) -> tuple[dict[str, Any], str] | None:
    """The manifest of the prepared data that a run was trained on, and the SHA-256 of its file.

    None if the folder is gone, has no manifest, or by now holds data with other classes.
    """
    data = run.config.data
    try:
        content = (Path(data.dir) / MANIFEST).read_bytes()
        manifest = json.loads(content)
        same = tuple(manifest["class_names"][data.label]) == run.class_names
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return (manifest, hashlib.sha256(content).hexdigest()) if same else None
