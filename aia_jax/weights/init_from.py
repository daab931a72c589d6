"""The variables that a run begins with: fresh ones, replaced by those that `init_from` holds."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from aia_jax.checkpoints.trained_run import CHECKPOINTS, open_run
from aia_jax.errors import UserError, describe, shorten
from aia_jax.models import clip_shape, model_from_config, name_of, network_of
from aia_jax.weights import load_own
from aia_jax.weights.files import DESCRIPTION, is_weights_folder, load_folder, shown_fields
from aia_jax.weights.names import Entry, Target
from aia_jax.weights.report import Dropped, Loaded, Report

SCRATCH = "scratch"


def check_init_from(config: ConfigDict, config_path: str) -> None:
    """Checks that the run knows what to start from, before anything is loaded.

    Args:
        config: of the run.
        config_path: of its recipe, for error messages.

    Raises:
        UserError: `init_from` is empty, or names no folder of weights and no run.
    """
    if not config.init_from:
        model = model_from_config(config)
        source = network_of(model).torch_names.pretrained_source(model)
        raise UserError(
            "config key init_from is empty, and the recipe starts from ImageNet weights: convert "
            f"{source} with `python convert_torch_weights.py --config {config_path} --torch FILE "
            "--out weights/imagenet` and add --config.init_from=weights/imagenet, or add "
            "--config.init_from=scratch and mean it"
        )
    if config.init_from == SCRATCH:
        return
    folder = Path(config.init_from)
    try:
        is_folder = folder.is_dir()
    except OSError as error:  # a path longer than the system allows, for one
        raise UserError(
            f"config key init_from: {shorten(folder)} cannot be read ({error.strerror})"
        ) from error
    if not is_folder:
        raise UserError(
            f"config key init_from: there is no folder {folder}; make one with "
            "convert_torch_weights.py"
        )
    if not is_weights_folder(folder) and not (folder / CHECKPOINTS).is_dir():
        raise UserError(
            f"config key init_from: {folder} is neither a folder of convert_torch_weights.py (no "
            f"{DESCRIPTION}) nor the workdir of a run (no {CHECKPOINTS})"
        )


def initial_variables(
    config: ConfigDict, model: nn.Module, key: jax.Array, class_names: Sequence[str]
) -> tuple[Any, Report | None]:
    """Initialises a network's variables, and loads what `init_from` holds.

    Args:
        config: of the run.
        model: its network.
        key: of the random initialisation.
        class_names: by label.

    Returns:
        {"params", "batch_stats"}, and what was loaded, fresh and dropped; None for a start from
        scratch.

    Raises:
        UserError: see `load_start`.
    """
    from_scratch = config.init_from == SCRATCH
    start = None if from_scratch else _read(Path(config.init_from), model)  # before compiling
    # No variable depends on T; one segment compiles fast.
    clip = jnp.zeros((1, *clip_shape(model.clone(num_frames=1), config.data.crop)))
    if start is not None:  # weights that do not fit show before anything is compiled
        backbone = {
            name: leaf for name, leaf in start.variables["params"].items() if name != "head"
        }
        shapes = jax.eval_shape(model.init, key, clip)
        load_own({**start.variables, "params": backbone}, shapes, model)
    variables = jax.jit(model.init)(key, clip)
    return (variables, None) if start is None else _load(start, variables, model, class_names)


def load_start(
    folder: Path, variables: Mapping[str, Any], model: nn.Module, class_names: Sequence[str]
) -> tuple[dict[str, Any], Report]:
    """Replaces fresh variables by the weights of a folder, or of a run's best checkpoint.

    The backbone loads whole, attention where it is the same. Where the names of the source's
    classes are known, a class of the same name keeps its row of the head and the others start
    fresh; where they are not, the head loads if it has as many classes.

    Args:
        folder: of convert_torch_weights.py, or a run's workdir.
        variables: fresh ones.
        model: the network of these variables.
        class_names: of these variables' head, by label.

    Returns:
        The variables, and what was loaded, fresh and dropped.

    Raises:
        UserError: the weights cannot be read, or are of another network.
    """
    return _load(_read(folder, model), variables, model, class_names)


class _Start(NamedTuple):
    """What a run starts from."""

    variables: Mapping[str, Any]  # {"params", "batch_stats"}, or a part of them
    class_names: Sequence[str] | None  # of the head; None where they are not known
    notes: Sequence[str]  # on how the weights' network differs from the run's


def _read(folder: Path, model: nn.Module) -> _Start:
    """Reads a folder of weights, or a run's best checkpoint, from which `model` starts.

    Raises:
        UserError: the weights cannot be read, are of another network, or their network shifts other
            channels.
    """
    if is_weights_folder(folder):
        variables, description = load_folder(folder)
        class_names = description.get("class_names")
        stored = description.get("model")
        fields = {"name": "resnet", **stored} if isinstance(stored, dict) else {}
    else:
        run = open_run(folder)
        variables, class_names = dict(run.variables), run.class_names
        description, fields = None, run.config.model.to_dict()
    name = name_of(model)
    if fields.get("name", name) != name:
        raise UserError(
            f"{folder}: its weights are of the network {describe(fields['name'])}, and this run's "
            f"is {name!r} (config key model.name); convert the source of the weights with this "
            "recipe, or choose their network"
        )
    if description is not None and not description.get("training"):
        fields = shown_fields(folder, description, model)  # the rest was the recipe's choice
    try:
        notes = network_of(model).torch_names.compare_start(fields, model)
    except UserError as error:
        raise UserError(f"{folder}: {error}") from error
    return _Start(variables, class_names, notes)


def _load(
    start: _Start, variables: Mapping[str, Any], model: nn.Module, class_names: Sequence[str]
) -> tuple[dict[str, Any], Report]:
    """Does what `load_start` does, with what `_read` returned."""
    source = start.variables
    if start.class_names is None or "head" not in source["params"]:
        loaded, report = load_own(source, variables, model)
    else:
        params = dict(source["params"])
        head = params.pop("head")
        loaded, report = load_own({**source, "params": params}, variables, model)
        loaded, report = _load_head(head, start.class_names, loaded, class_names, report)
    return loaded, dataclasses.replace(report, notes=(*report.notes, *start.notes))


def _load_head(
    source_head: Mapping[str, Any],
    source_classes: Sequence[str],
    variables: dict[str, Any],
    classes: Sequence[str],
    report: Report,
) -> tuple[dict[str, Any], Report]:
    """Loads the head's columns of the classes whose names are the same in source and network.

    Args:
        source_head: {"kernel": [features, classes], "bias": [classes]}; the classes are
            `source_classes`.
        source_classes: by label.
        variables: with a fresh head, whose classes are `classes`.
        classes: by label.
        report: on the variables without the head.

    Returns:
        The variables with the head, and the report with it.
    """
    pairs = [
        (label, source_classes.index(name))
        for label, name in enumerate(classes)
        if name in source_classes
    ]
    text = (
        f"classes: {len(pairs)} of {len(classes)} mapped by name, {len(classes) - len(pairs)} "
        f"fresh, {len(source_classes) - len(pairs)} left behind"
    )
    if not pairs:
        unused = (
            Dropped(f"params/head/{name}", leaf.shape, "no class of a name here")
            for name, leaf in source_head.items()
        )
        dropped = (*report.dropped, *unused)
        return variables, dataclasses.replace(report, dropped=dropped, classes=text)
    labels, source_labels = map(list, zip(*pairs, strict=True))
    head = {name: np.array(leaf) for name, leaf in variables["params"]["head"].items()}
    for name, leaf in head.items():
        if name not in source_head:
            raise UserError(f"the weights have no params/head/{name}, and a head needs it")
        shape = (*leaf.shape[:-1], len(source_classes))
        target = Target(f"params/head/{name}", shape, tuple(range(leaf.ndim)))
        source = target.convert(Entry(target.variable, source_head[name]))
        leaf[..., labels] = source[..., source_labels]
    shapes = {f"params/head/{name}": leaf.shape for name, leaf in head.items()}
    report = dataclasses.replace(
        report,
        loaded=(*report.loaded, *(Loaded(name, name, shape) for name, shape in shapes.items())),
        fresh={name: shape for name, shape in report.fresh.items() if name not in shapes},
        classes=text,
    )
    return {**variables, "params": {**variables["params"], "head": head}}, report
