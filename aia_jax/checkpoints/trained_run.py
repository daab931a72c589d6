"""Opens a trained run by its folder alone: its checkpoint holds config, classes and weights."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
from flax import linen as nn
from ml_collections import ConfigDict

from aia_jax import config as configs
from aia_jax.checkpoints.digest import leaf_digests
from aia_jax.checkpoints.files import (
    CheckpointError,
    best_step,
    check_model,
    committed_steps,
    load_weights,
    named_leaves,
    read_meta,
)
from aia_jax.checkpoints.run_config import config_to_test
from aia_jax.errors import UserError
from aia_jax.models import clip_shape, model_from_config
from aia_jax.shards.manifest import MANIFEST

CHECKPOINTS = "checkpoints"  # folder of a run's workdir
_ATTEMPTS = 5  # to read a step before a training removes it


@dataclass(frozen=True)
class TrainedRun:
    """One checkpoint of a run.

    Attributes:
        workdir: the run's folder.
        step: of the checkpoint; None for weights that no run here has trained.
        config: the config with which the run was trained, with `overrides`.
        class_names: by label.
        metrics: of the validation at that step; empty if there was none.
        model: the network.
        variables: {"params", "batch_stats"}, NumPy leaves; the moving average if the run has one.
        data: what the checkpoint keeps of the run's data (`shards.fingerprint.describe_data`); {}
            in one of an older version.
        recipe: "config", the recipe's name, and "overrides", those of the training's command line;
            {} in a checkpoint of an older version.
        overrides: by key, (the run's value, the value in its place) of each field of `config` that
            is not the run's and that decides numbers.
        notes: for the user: where a recipe that was named is not followed.
        names_known: whether `class_names` are names; else they only count the classes.
    """

    workdir: Path
    step: int | None
    config: ConfigDict
    class_names: tuple[str, ...]
    metrics: Mapping[str, Any]
    model: nn.Module
    variables: Mapping[str, Any]
    data: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    overrides: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    names_known: bool = True

    @property
    def clip_shape(self) -> tuple[int, int, int, int]:
        """(T, H, W, 3) of the network's input."""
        return clip_shape(self.model, self.config.data.crop)

    @property
    def multilabel(self) -> bool:
        """Whether the network was trained on data with several labels a video."""
        return self.config.data.get("label_kind") == "multi"

    @property
    def data_dir(self) -> Path:
        """The folder of the run's data.

        It is the one where they were when the run was trained, whatever the working directory is
        now. If that is gone, it is the config's `data.dir`.
        """
        trained = self.data.get("dir")
        if trained and "data.dir" not in self.overrides and Path(trained).is_dir():
            return Path(trained)
        return Path(self.config.data.dir)

    def weights_fingerprint(self) -> str:
        """16 hexadecimal digits that are the same for equal weights."""
        digests = leaf_digests(named_leaves(dict(self.variables)))
        return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()[:16]


def choose_step(folder: Path, step: str) -> int:
    """The number of the checkpoint that `--step` asks for.

    Args:
        folder: the run's checkpoints.
        step: "best" (see `files.best_step`; the latest where no step is), "latest", or a number.

    Raises:
        UserError: there is none; names those that there are. For "best": a step is damaged, which
            may be the best one.
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


def open_run(
    workdir: Path,
    step: str = "best",
    *,
    overrides: Sequence[str] = (),
    recipe: ConfigDict | None = None,
) -> TrainedRun:
    """Reads a checkpoint and builds its network.

    A config that an older version saved may lack fields; they get their defaults. A training may
    write to the folder at the same time: a step that it removes meanwhile is chosen anew.

    Args:
        workdir: the run's folder.
        step: see `choose_step`.
        overrides: fields of the config to use otherwise than the run did, "section.key=value" each.
        recipe: see `config_to_test`.

    Raises:
        UserError: no such checkpoint, or it is damaged or of another version's network; or the
            overrides make another network.
    """
    folder = workdir / CHECKPOINTS
    for attempts_left in reversed(range(_ATTEMPTS)):
        number = choose_step(folder, step)
        try:
            meta = read_meta(folder, number)
            variables = load_weights(folder, number)
            break
        except CheckpointError:
            if number in committed_steps(folder) or not attempts_left:
                raise
    config, changed, notes = config_to_test(configs.from_json(meta["config"]), overrides, recipe)
    data = meta.get("data") or {}
    if data and any(override.startswith("data.dir=") for override in overrides):
        # The folder counts, not how its path is written.
        changed.pop("data.dir", None)
        if str(Path(config.data.dir).resolve()) != data["dir"]:
            changed["data.dir"] = data["dir"], config.data.dir
    run = TrainedRun(
        workdir=workdir,
        step=number,
        config=config,
        class_names=tuple(meta["class_names"]),
        metrics=meta.get("metrics") or {},
        model=model_from_config(config),
        variables=variables,
        data=data,
        recipe=meta.get("recipe") or {},
        overrides=changed,
        notes=tuple(notes),
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
    try:
        content = (run.data_dir / MANIFEST).read_bytes()
        manifest = json.loads(content)
        class_names = tuple(manifest["class_names"][run.config.data.label])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if class_names != run.class_names:
        return None
    return manifest, hashlib.sha256(content).hexdigest()
