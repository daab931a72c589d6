"""The variables a run begins with."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from aia_jax.checkpoints.trained_run import open_run
from aia_jax.errors import UserError
from aia_jax.models import VideoNet
from aia_jax.weights import load_own
from aia_jax.weights.files import DESCRIPTION, load_folder
from aia_jax.weights.report import Dropped, Loaded, Report

SCRATCH = "scratch"
_CHECKPOINTS = "checkpoints"  # folder of a run's workdir


def check_init_from(config: ConfigDict, config_path: str) -> None:
    """Checks that the run knows what to start from, before anything is loaded.

    Raises:
        UserError: `init_from` is empty or names no folder of weights and no run.
    """
    if not config.init_from:
        raise UserError(
            "config key init_from is empty, and the recipe starts from ImageNet weights: convert "
            f"a ResNet-{config.model.depth} with "
            f"`python convert_torch_weights.py --config {config_path} --torch FILE --out "
            "weights/imagenet` and add "
            "--config.init_from=weights/imagenet, or add --config.init_from=scratch and mean it"
        )
    if config.init_from == SCRATCH:
        return
    folder = Path(config.init_from)
    if not folder.is_dir():
        raise UserError(
            f"config key init_from: there is no folder {folder}; make one with "
            "convert_torch_weights.py"
        )
    if not (folder / DESCRIPTION).is_file() and not (folder / _CHECKPOINTS).is_dir():
        raise UserError(
            f"config key init_from: {folder} is neither a folder of convert_torch_weights.py (no "
            f"{DESCRIPTION}) nor the workdir of a run "
            f"(no {_CHECKPOINTS})"
        )


def initial_variables(
    config: ConfigDict, model: VideoNet, key: jax.Array, class_names: Sequence[str]
) -> tuple[Any, Report | None]:
    """Fresh variables, with what `init_from` holds in their place.

    Returns:
        {"params", "batch_stats"}, and what was loaded, fresh and dropped; None for a start from
        scratch.

    Raises:
        UserError: see `load_start`.
    """
    clip = jnp.zeros(
        (1, 1, config.data.crop, config.data.crop, 3)
    )  # no variable depends on T, and one frame is made fast
    variables = jax.jit(model.init)(key, clip)
    return (
        (variables, None)
        if config.init_from == SCRATCH
        else load_start(Path(config.init_from), variables, class_names)
    )


def load_start(
    folder: Path, variables: Mapping[str, Any], class_names: Sequence[str]
) -> tuple[dict[str, Any], Report]:
    """Puts the weights of a folder, or of a run's best checkpoint, in the place of fresh variables.

    The backbone loads whole, attention where it is the same. Where the names of the source's
    classes are known, a class of the same name keeps its row of the head and the others start
    fresh; where they are not, the head loads if it has as many classes.

    Args:
        folder: of convert_torch_weights.py, or a run's workdir.
        variables: fresh ones.
        class_names: of these variables' head.

    Raises:
        UserError: the weights cannot be read, or are of another network.
    """
    source, names = _read(folder)
    if names is None or "head" not in source["params"]:
        return load_own(source, variables)
    return _load_by_name(source, names, variables, class_names)


def _read(folder: Path) -> tuple[dict[str, Any], Sequence[str] | None]:
    """The variables in a folder of weights or in a run's best checkpoint, and the class names where
    they are known.
    """
    if (folder / DESCRIPTION).is_file():
        variables, description = load_folder(folder)
        return variables, description.get("class_names")
    run = open_run(folder)
    return dict(run.variables), run.class_names


def _load_by_name(
    source: Mapping[str, Any],
    theirs: Sequence[str],
    variables: Mapping[str, Any],
    ours: Sequence[str],
) -> tuple[dict[str, Any], Report]:
    """`load_own`, with the head's columns put where the classes of the same names are here."""
    params = {**source["params"]}
    their_head = params.pop("head")
    loaded, report = load_own({**source, "params": params}, variables)
    pairs = [(k, theirs.index(name)) for k, name in enumerate(ours) if name in theirs]
    text = f"classes: {len(pairs)} of {len(ours)} mapped by name, {len(ours) - len(pairs)} fresh, {len(theirs) - len(pairs)} left behind"
    if not pairs:
        unused = (
            Dropped(f"params/head/{name}", leaf.shape, "no class of a name here")
            for name, leaf in their_head.items()
        )
        return loaded, dataclasses.replace(report, dropped=(*report.dropped, *unused), classes=text)
    here, there = map(list, zip(*pairs, strict=True))
    head = {name: np.array(leaf) for name, leaf in variables["params"]["head"].items()}
    for name, leaf in head.items():  # kernel [features, classes], bias [classes]
        leaf[..., here] = np.asarray(their_head[name])[..., there]
    mapped = {f"params/head/{name}": leaf.shape for name, leaf in head.items()}
    report = dataclasses.replace(
        report,
        loaded=(*report.loaded, *(Loaded(name, name, shape) for name, shape in mapped.items())),
        fresh={name: shape for name, shape in report.fresh.items() if name not in mapped},
        classes=text,
    )
    return {**loaded, "params": {**loaded["params"], "head": head}}, report
