"""Reads the folders that `Checkpoints` writes: one step's meta, its weights, or its whole state.

Everything that is read is checked. Nothing here changes a folder, so all of it may be used while a
training writes into it.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from flax import traverse_util

from aia_jax.checkpoints import digest
from aia_jax.checkpoints.ranking import ranked_by, score_of, step_of_highest
from aia_jax.errors import RunFailed, UserError

_MAX_NAMED = 3  # an error names this many differing leaves, then says how many more there are


class CheckpointError(UserError):
    """A checkpoint is missing, damaged or of another model; the text says which and what to do."""


def committed_steps(directory: Path | str) -> list[int]:
    """The steps in a run's checkpoint folder that are completely written, ascending."""
    directory = Path(directory)
    if not directory.is_dir():
        return []
    return sorted(
        int(path.name) for path in directory.iterdir() if path.name.isdecimal() and path.is_dir()
    )


def read_meta(directory: Path | str, step: int) -> dict[str, Any]:
    """Reads the `meta` that was saved with a step.

    Raises:
        CheckpointError: no such step, or the file is damaged.
    """
    folder = step_folder(Path(directory), step)
    try:
        return json.loads(digest.read_checked(folder, digest.META))
    except digest.Damaged as damage:
        raise damaged_step(folder, damage) from damage


def best_step(directory: Path | str) -> int | None:
    """The step with the best validation, the earliest of equals; None if none was validated.

    What counts is the metric by which the run ranks its checkpoints (`train.best_by`).

    Raises:
        CheckpointError: a step is damaged, which may be the best one.
    """
    scores, unreadable = read_scores(Path(directory))
    for error in unreadable.values():
        raise CheckpointError(f"which checkpoint is the best cannot be told: {error}") from error
    return step_of_highest(scores)


def load_weights(
    directory: Path | str, step: int | str | None = None, *, ema: bool = True
) -> dict[str, Any]:
    """Reads the weights of a step without the optimiser, for evaluation or as a start.

    Args:
        directory: a run's checkpoint folder.
        step: a number, "best" (see `best_step`) or None for the latest.
        ema: take the moving average where there is one, instead of the raw weights.

    Returns:
        {"params", "batch_stats"}, NumPy leaves.

    Raises:
        CheckpointError: nothing to load, or damaged.
    """
    directory = Path(directory)
    if step == "best":
        step = best_step(directory)
        if step is None:
            raise CheckpointError(
                f"no checkpoint in {directory} has a validation to be the best by; name a step or "
                "take the latest"
            )
    elif step is None:
        steps = committed_steps(directory)
        if not steps:
            raise CheckpointError(
                f"no checkpoint in {directory}: train first, or name the folder of another run"
            )
        step = steps[-1]
    folder = step_folder(directory, int(step))
    try:
        digest.check_files(folder)
        saved = _read_leaves(folder)
        prefix = "ema/" if ema and any(path.startswith("ema/") for path in saved) else ""
        parts = (f"{prefix}params/", f"{prefix}batch_stats/")
        targets = {
            path: np.empty(leaf["shape"], leaf["dtype"])
            for path, leaf in saved.items()
            if path.startswith(parts)
        }
        arrays = _read_arrays(folder, targets)
        _check_leaves(arrays, saved)
    except digest.Damaged as damage:
        raise damaged_step(folder, damage) from damage
    weights = traverse_util.unflatten_dict(
        {path.removeprefix(prefix): leaf for path, leaf in arrays.items()}, sep="/"
    )
    return {"params": weights["params"], "batch_stats": weights.get("batch_stats", {})}


def check_model(directory: Path | str, step: int, weights: Any, expected: Any) -> None:
    """Compares the weights of a step with the variables that a model has.

    Args:
        weights: from `load_weights`.
        expected: {"params", "batch_stats"} of the model: arrays or their shapes.

    Raises:
        CheckpointError: the weights are of another model; names leaves that differ.
    """
    saved = {
        path: {"dtype": str(leaf.dtype), "shape": list(leaf.shape)}
        for path, leaf in named_leaves(weights).items()
    }
    _check_same_model(step_folder(Path(directory), step), named_leaves(expected), saved)


def restore_state(directory: Path | str, step: int, abstract_state: Any) -> Any:
    """Reads the whole state of a step and checks all of it; see `Checkpoints.restore`."""
    folder = step_folder(Path(directory), step)
    targets = named_leaves(abstract_state)
    try:
        digest.check_files(folder)
        saved = _read_leaves(folder)
        _check_same_model(folder, targets, saved)
        arrays = _read_arrays(
            folder, {path: _with_sharding(leaf) for path, leaf in targets.items()}
        )
        _check_leaves(arrays, saved)
    except digest.Damaged as damage:
        raise damaged_step(folder, damage) from damage
    return jax.tree.unflatten(
        jax.tree.structure(abstract_state), [arrays[path] for path in targets]
    )


def read_scores(
    directory: Path, best_by: str | None = None
) -> tuple[dict[int, float], dict[int, CheckpointError]]:
    """Reads how good each step is.

    Args:
        directory: a run's checkpoint folder.
        best_by: the metric that counts; None for the one that the newest step says.

    Returns:
        Step → score (`ranking.score_of`), for every step that was validated; and step → error, for
        every step whose score cannot be read. Nobody knows whether such a step is the best one.
    """
    metas, unreadable = {}, {}
    for step in committed_steps(directory):
        try:
            metas[step] = read_meta(directory, step)
        except CheckpointError as error:
            if step in committed_steps(directory):  # a run has not removed it meanwhile
                unreadable[step] = error
    best_by = best_by or ranked_by(metas[max(metas)] if metas else {})
    scores = {step: score_of(meta.get("metrics"), best_by) for step, meta in metas.items()}
    return {step: score for step, score in scores.items() if score is not None}, unreadable


def step_folder(directory: Path, step: int) -> Path:
    """The folder of a step.

    Raises:
        CheckpointError: there is none; names the steps that there are.
    """
    steps = committed_steps(directory)
    if step not in steps:
        raise CheckpointError(
            f"no checkpoint of step {step} in {directory}; there are: "
            f"{', '.join(map(str, steps)) or 'none'}"
        )
    return directory.absolute() / str(step)


def named_leaves(tree: Any) -> dict[str, Any]:
    """'/'-joined path → leaf, in the tree's order."""
    paths, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in paths}


def _with_sharding(leaf: Any) -> jax.ShapeDtypeStruct:
    """Shape and dtype of a leaf with its sharding: its own, or the first local device."""
    sharding = getattr(leaf, "sharding", None) or jax.sharding.SingleDeviceSharding(
        jax.local_devices()[0]
    )
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _read_leaves(folder: Path) -> dict[str, dict[str, Any]]:
    """Path of a leaf → its {"dtype", "shape", "digest"}, as they were saved."""
    return json.loads(digest.read_checked(folder, "leaves/metadata"))


def _read_arrays(folder: Path, targets: Mapping[str, Any]) -> dict[str, Any]:
    """Reads the arrays at the paths of `targets`, and no others.

    Args:
        folder: of the step.
        targets: path → NumPy array for a NumPy array, or `jax.ShapeDtypeStruct` with a sharding for
            an array on the devices of that sharding.
    """
    nested = traverse_util.unflatten_dict(dict(targets), sep="/")
    restore_args = ocp.checkpoint_utils.construct_restore_args(nested)
    try:
        with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
            arrays = checkpointer.restore(
                folder / "state",
                args=ocp.args.PyTreeRestore(
                    nested, restore_args=restore_args, partial_restore=True
                ),
            )
    except Exception as error:
        if jax.process_count() > 1:  # another process may have ended: the files were whole before
            raise RunFailed(
                f"{folder / 'state'} could not be read by all processes of the run: "
                f"{' '.join(str(error).split())[:300]}; its files are whole: see what the other "
                "processes say, and run the same command again"
            ) from error
        raise digest.Damaged(
            f"{folder / 'state'} cannot be read ({type(error).__name__}: "
            f"{' '.join(str(error).split())[:300]})"
        ) from error
    return traverse_util.flatten_dict(arrays, sep="/")


def _check_leaves(arrays: Mapping[str, Any], saved: Mapping[str, Any]) -> None:
    """Raises `Damaged` for the first array whose digest is not the one that was saved."""
    for path, array_digest in digest.leaf_digests(arrays).items():
        if array_digest != saved[path]["digest"]:
            raise digest.Damaged(f"leaf {path} does not hold the numbers that were saved")


def _check_same_model(folder: Path, targets: Mapping[str, Any], saved: Mapping[str, Any]) -> None:
    """Raises `CheckpointError` unless the saved leaves have the paths, shapes and dtypes expected.

    Args:
        folder: of the step, for the error message.
        targets: path → leaf that is expected.
        saved: from `_read_leaves`.
    """
    expected = {path: f"{leaf.dtype}{list(leaf.shape)}" for path, leaf in targets.items()}
    found = {path: f"{leaf['dtype']}{leaf['shape']}" for path, leaf in saved.items()}
    paths = [*found, *(path for path in expected if path not in found)]
    differing = [
        f"{path} is {found.get(path, 'missing')} there, {expected.get(path, 'missing')} here"
        for path in paths
        if found.get(path) != expected.get(path)
    ]
    if differing:
        more = len(differing) - _MAX_NAMED
        raise CheckpointError(
            f"checkpoint {folder} is of another model or optimiser: "
            f"{'; '.join(differing[:_MAX_NAMED])}{f'; {more} more differ' if more > 0 else ''}. "
            "Use the config that the run was started with, or another --workdir"
        )


def find_damage(directory: Path, step: int) -> CheckpointError | None:
    """What is wrong with the files of a step; None if they are whole.

    Raises:
        CheckpointError: there is no such step.
    """
    folder = step_folder(directory, step)
    try:
        digest.check_files(folder)
    except digest.Damaged as damage:
        return damaged_step(folder, damage)
    return None


def damaged_step(folder: Path, damage: digest.Damaged) -> CheckpointError:
    """The error of a damaged step, with the steps that are whole."""
    directory, step = folder.parent, int(folder.name)
    whole = []
    for other in committed_steps(directory):
        try:
            digest.check_files(directory / str(other))
        except digest.Damaged:
            continue
        if other != step:
            whole.append(other)
    if whole:
        named = f"step {whole[0]} is"
        if len(whole) > 1:
            named = f"steps {', '.join(map(str, whole[:-1]))} and {whole[-1]} are"
        newest = max((other for other in whole if other < step), default=whole[-1])
        advice = (
            f"{named} whole: name one with --step to test or to predict; train.py goes on from one "
            f"with --resume_from={newest}"
        )
    else:
        advice = (
            "no other step is whole: restore the folder from a backup, or start again in another "
            "--workdir"
        )
    return CheckpointError(f"checkpoint of step {step} is damaged: {damage}; {advice}")
