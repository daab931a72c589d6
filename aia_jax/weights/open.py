"""Opens weights that no run here has trained as a network that tests and predicts."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from aia_jax import config as configs
from aia_jax.checkpoints.run_config import config_to_test, first_difference
from aia_jax.checkpoints.trained_run import TrainedRun, open_run
from aia_jax.config_check import check
from aia_jax.config_fields import add_missing, as_type, set_field, use_network
from aia_jax.errors import UserError, describe, shorten
from aia_jax.frame_geometry import resize_text
from aia_jax.models import model_from_config
from aia_jax.weights import load_own
from aia_jax.weights.class_file import read_class_file
from aia_jax.weights.files import (
    description_file,
    is_weights_folder,
    load_folder,
    shown_fields,
)

# Fields of `config.data` that say how a clip is made for the network; a folder keeps them.
GEOMETRY = ("num_frames", "crop", "resize", "sampling")
# Those, and whether a video has several classes; a folder that says nothing has one a video.
DATA_FIELDS = (*GEOMETRY, "label_kind")

# What a test reads of the config besides the network: the defaults of configs/base.py, which is not
# part of an installed package.
_WITHOUT_RECIPES = {
    "compile_cache": "~/.cache/aia_jax/compiled",
    "data": {
        "dir": "",
        "num_classes": 0,
        "label": "label",
        "label_kind": "",
        "num_frames": 8,
        "sampling": "reference",
        "crop": 224,
        "resize": (240, 320),
    },
    "eval": {"protocol": "center"},
}


def open_weights(
    folder: Path,
    class_file: Path | None = None,
    *,
    overrides: Sequence[str] = (),
    recipe: ConfigDict | None = None,
) -> TrainedRun:
    """Opens a folder of weights as if a run had trained them.

    Args:
        folder: of convert_torch_weights.py, or in the form of model hubs (`hub.py`).
        class_file: the names of the classes, see `read_class_file`; None takes those of the folder.
        overrides: fields of the config to use otherwise, "section.key=value" each.
        recipe: gives what the folder does not keep, and what belongs to the machine; None takes
            configs/base.py.

    Returns:
        As `open_run`; `workdir` is the folder and `step` None. Where neither folder nor file has
        names, `names_known` is False and the names are "class 0", "class 1" …

    Raises:
        UserError: the folder cannot be read or is damaged, it lacks variables of its network or its
            head, folder and file name other classes, the overrides make another network, or a value
            is wrong.
    """
    variables, description = load_folder(folder)
    count = _head_size(folder, variables)
    saved, notes = make_config(description_file(folder), description, count, recipe)
    config, changed, more_notes = config_to_test(saved, overrides, recipe)
    check(config)
    run = make_run(
        folder,
        config,
        variables,
        description.get("class_names"),
        recipe={"config": description.get("config") or "", "overrides": []},
        overrides=changed,
        notes=(*notes, *more_notes),
    )
    _check_variables(run)
    if class_file is None:
        return run
    return name_classes(run, read_class_file(class_file, count), f"--classes {class_file}")


def make_run(
    path: Path,
    config: ConfigDict,
    variables: Mapping[str, Any],
    class_names: Sequence[str] | None,
    **more: Any,
) -> TrainedRun:
    """A network that no run here has trained, as a run.

    Args:
        path: where its weights come from.
        config: from `make_config`.
        variables: of the network.
        class_names: by label; None where they are not known.
        more: fields of `TrainedRun`.
    """
    data = config.data
    return TrainedRun(
        workdir=path,
        step=None,
        config=config,
        class_names=tuple(class_names or (f"class {k}" for k in range(data.num_classes))),
        names_known=class_names is not None,
        metrics={},
        model=model_from_config(config),
        variables=variables,
        # Frames are stored as the recipe resizes them; which data they were is not known.
        data={"dir": "", "options": {"--size": resize_text(data.resize)}, "splits": {}},
        **more,
    )


def open_trained(folder: Path, step: str = "best", *, overrides: Sequence[str] = ()) -> TrainedRun:
    """Opens a run's folder, or a folder of weights, by what lies in it.

    Raises:
        UserError: see `open_run` and `open_weights`.
    """
    if is_weights_folder(folder):
        return open_weights(folder, overrides=overrides)
    return open_run(folder, step, overrides=overrides)


def name_classes(run: TrainedRun, names: Sequence[str], source: str) -> TrainedRun:
    """Names the classes of a network, or compares names with those that it has.

    Args:
        run: from `open_weights`.
        names: by label.
        source: where the names come from, for error messages.

    Raises:
        UserError: there are more or fewer names than classes, or the network has other names.
    """
    if len(names) != len(run.class_names):
        raise UserError(
            f"{source} has {len(names)} classes, and {run.workdir} has {len(run.class_names)}"
        )
    if run.names_known and tuple(names) != run.class_names:
        raise UserError(
            f"{source} does not name the classes of {run.workdir} "
            f"({first_difference(run.class_names, names)}); leave it out, or correct class_names "
            f"in {description_file(run.workdir)}"
        )
    return dataclasses.replace(run, class_names=tuple(names), names_known=True)


def _head_size(folder: Path, variables: Mapping[str, Any]) -> int:
    """The classes of the head.

    Raises:
        UserError: there is no head.
    """
    head = variables["params"].get("head")
    leaves = [np.shape(leaf) for leaf in head.values()] if isinstance(head, Mapping) else []
    sizes = {shape[-1] for shape in leaves if shape}
    if len(sizes) != 1:
        raise UserError(
            f"{shorten(folder)} holds a backbone without a head, which knows no classes: train "
            f"from it (train.py --config.init_from={shorten(folder)})"
        )
    return sizes.pop()


def make_config(
    path: Path, description: Mapping[str, Any], count: int, recipe: ConfigDict | None = None
) -> tuple[ConfigDict, list[str]]:
    """The config of weights, and notes on what is taken because nothing says it.

    Args:
        path: of the file that says which network it is, for messages.
        description: its content: "model", the network's fields, and "data", those of `DATA_FIELDS`.
        count: classes of the head.
        recipe: as in `open_weights`.

    Raises:
        UserError: the fields are those of no network, or a value is wrong.
    """
    config = ConfigDict((configs.from_json("{}") if recipe is None else recipe).to_dict())
    add_missing(config, ConfigDict(_WITHOUT_RECIPES))
    fields = description.get("model", {} if recipe is None else recipe.model.to_dict())
    if not isinstance(fields, dict) or not fields:
        raise UserError(
            f"{path} does not say of which network the weights are; name its recipe with --config"
        )
    stored = description.get("data", {})
    if not isinstance(stored, dict):
        raise UserError(f"{path}: data is {describe(stored)}, expected an object")
    fields = {key: value for key, value in fields.items() if key != "num_classes"}
    name = fields.pop("name", "resnet")
    config.data.num_classes = count
    try:
        name = as_type(name, "", "model.name")
        for field in DATA_FIELDS:
            if field in stored:
                key = f"data.{field}"
                set_field(config, key, as_type(stored[field], config.data[field], key))
        use_network(config, name, **fields)
        # An older folder says in its report how the weights shift.
        shown = shown_fields(path.parent, description, model_from_config(config))
        use_network(config, name, **(fields | shown))
        check(config)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    missing = [field for field in GEOMETRY if field not in stored]
    if not missing:
        return config.lock(), []
    taken = ", ".join(f"data.{field}={_text(config.data[field])}" for field in missing)
    source = "configs/base.py has" if recipe is None else "the recipe has"
    return config.lock(), [
        f"{path.parent} does not keep how clips are made; as {source}: {taken}; --config FILE or "
        "--config.data.KEY=VALUE makes them otherwise"
    ]


def _check_variables(run: TrainedRun) -> None:
    """Refuses weights that lack variables of their network, or hold others.

    Raises:
        UserError: names them.
    """
    clips = jax.ShapeDtypeStruct((1, *run.clip_shape), "float32")
    expected = jax.eval_shape(run.model.init, jax.random.key(0), clips)
    try:
        _, report = load_own(run.variables, expected, run.model)
    except UserError as error:
        raise UserError(f"{run.workdir}: {error}") from error
    if report.fresh:
        raise UserError(
            f"{run.workdir} lacks {len(report.fresh)} variables of its network, such as "
            f"{next(iter(report.fresh))}; with random ones nothing can be predicted: train from "
            f"it (train.py --config.init_from={run.workdir})"
        )
    if report.dropped:
        raise UserError(
            f"{run.workdir} holds {len(report.dropped)} variables that are not of the network in "
            f"its {description_file(run.workdir).name}, such as {report.dropped[0].key}; convert "
            "the weights again with the recipe of their network"
        )


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)
