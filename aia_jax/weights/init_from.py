"""The variables that a run begins with: fresh ones, replaced by those that `init_from` holds."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from aia_jax.checkpoints.trained_run import CHECKPOINTS, open_run
from aia_jax.errors import UserError
from aia_jax.models import model_from_config, network_of
from aia_jax.weights import load_own
from aia_jax.weights.files import DESCRIPTION, load_folder
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
    if not folder.is_dir():
        raise UserError(
            f"config key init_from: there is no folder {folder}; make one with "
            "convert_torch_weights.py"
        )
    if not (folder / DESCRIPTION).is_file() and not (folder / CHECKPOINTS).is_dir():
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
    crop = config.data.crop
    clip = jnp.zeros((1, 1, crop, crop, 3))  # no variable depends on T; one frame compiles fast
    variables = jax.jit(model.init)(key, clip)
    if config.init_from == SCRATCH:
        return variables, None
    return load_start(Path(config.init_from), variables, model, class_names)


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
    source, source_classes = _read(folder)
    if source_classes is None or "head" not in source["params"]:
        return load_own(source, variables, model)
    params = dict(source["params"])
    head = params.pop("head")
    loaded, report = load_own({**source, "params": params}, variables, model)
    return _load_head(head, source_classes, loaded, class_names, report)


def _read(folder: Path) -> tuple[dict[str, Any], Sequence[str] | None]:
    """The variables in a folder of weights or in a run's best checkpoint, and the class names.

    The names are None where the folder does not hold them.
    """
    if (folder / DESCRIPTION).is_file():
        variables, description = load_folder(folder)
        return variables, description.get("class_names")
    run = open_run(folder)
    return dict(run.variables), run.class_names


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
        leaf[..., labels] = np.asarray(source_head[name])[..., source_labels]
    shapes = {f"params/head/{name}": leaf.shape for name, leaf in head.items()}
    report = dataclasses.replace(
        report,
        loaded=(*report.loaded, *(Loaded(name, name, shape) for name, shape in shapes.items())),
        fresh={name: shape for name, shape in report.fresh.items() if name not in shapes},
        classes=text,
    )
    return {**variables, "params": {**variables["params"], "head": head}}, report
