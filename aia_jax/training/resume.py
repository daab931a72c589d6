"""Whether and from where a run goes on, known before anything is computed or set aside."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
from ml_collections import ConfigDict

from aia_jax import config as configs
from aia_jax.checkpoints.files import find_damage, read_meta
from aia_jax.checkpoints.manager import Checkpoints
from aia_jax.checkpoints.run_config import compare_with_checkpoint
from aia_jax.errors import UserError
from aia_jax.models import clip_shape, model_from_config
from aia_jax.shapes import PyTree
from aia_jax.shards.fingerprint import compare_data
from aia_jax.training.parameter_groups import assign_groups, parse_groups
from aia_jax.training.validations import Validations


def with_shardings(shapes: PyTree, shardings: PyTree) -> PyTree:
    """The abstract state that `Checkpoints.restore` takes: each leaf's shape and its sharding."""
    return jax.tree.map(
        lambda leaf, on: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=on),
        shapes,
        shardings,
    )


def choose_checkpoint(
    checkpoints: Checkpoints,
    resume_from: int | None,
    config: ConfigDict,
    class_names: Sequence[str],
    data: Mapping[str, Any],
    total_steps: int,
) -> tuple[dict[str, Any], list[str]]:
    """Finds the checkpoint that a run goes on from, and makes it the latest one.

    Args:
        checkpoints: of the run.
        resume_from: the step that the user names; None for the latest.
        config: of the run.
        class_names: by label.
        data: from `shards.fingerprint.describe_data`.
        total_steps: at which the run ends.

    Returns:
        The checkpoint's `meta`, {} if there is no checkpoint yet; and notes for the user.

    Raises:
        UserError: the run cannot go on exactly, or the checkpoint is damaged or not there; nothing
            was set aside.
    """
    notes = [f"{error}; it stays, and is not the best" for error in checkpoints.unreadable.values()]
    steps, best = checkpoints.steps(), checkpoints.best_step()
    # The latest step is checked when it is restored.
    if best not in (None, *steps[-1:]) and (damage := find_damage(checkpoints.directory, best)):
        notes.append(f"{damage}; it is the best step, and cannot be tested")
    if resume_from is None and not steps:
        return {}, notes
    step = steps[-1] if resume_from is None else resume_from
    meta = read_meta(checkpoints.directory, step)
    changes = compare_with_checkpoint(config, class_names, meta, _same_in_effect(config, meta))
    validations = Validations(checkpoints.best_by, config.train.patience, meta)
    ended = step >= total_steps or validations.end_run(step)
    finished = ", but the run is finished: no step is taken" if ended else ""
    notes += [f"{change}{finished}" for change in changes]
    on_purpose = config.data.changed_on_purpose
    notes += compare_data(meta.get("data", {}), data, on_purpose=on_purpose)
    if resume_from is not None:
        later = ", ".join(map(str, checkpoints.rewind(step))) or "nothing"
        notes.append(f"going back to step {step}; set aside: {later}")
    return meta, notes


def _same_in_effect(config: ConfigDict, meta: Mapping[str, Any]) -> list[str]:
    """Keys whose value may be another than in the checkpoint's config and still means the same."""
    saved = configs.from_json(meta["config"])
    keys = ["optim.groups"] if _same_groups(saved, config) else []
    if _same_network(saved, config):
        keys += [f"model.{field}" for field in config.model]
    # An older version knew one kind of labels, and did not say it.
    if (saved.data.label_kind or "single") == config.data.label_kind:
        keys.append("data.label_kind")
    return keys


def _same_network(saved: ConfigDict, config: ConfigDict) -> bool:
    """Whether the networks are the same, a default in one of them and its value in the other."""
    if saved.model.name != config.model.name:
        return False
    before, now = (model_from_config(each) for each in (saved, config))
    return getattr(before, "written_out", before) == getattr(now, "written_out", now)


def _same_groups(saved: ConfigDict, config: ConfigDict) -> bool:
    """Whether every parameter has the factors with which the checkpoint's run was trained.

    The rows of `optim.groups` may be others: a network's own change from version to version.
    """
    if saved.optim.groups == config.optim.groups or saved.model != config.model:
        return saved.optim.groups == config.optim.groups
    model = model_from_config(config)
    clips = jax.ShapeDtypeStruct((1, *clip_shape(model, config.data.crop)), "float32")
    params = jax.eval_shape(model.init, jax.random.key(0), clips)["params"]
    try:
        before, now = (
            [(group.lr, group.decay) for group in jax.tree.leaves(assign_groups(params, groups))]
            for groups in map(parse_groups, (saved.optim.groups, config.optim.groups))
        )
    except UserError:  # rows of no use; the optimiser says so if they are this run's
        return False
    return before == now
