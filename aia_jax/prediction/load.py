"""Opens a trained network by its path alone: `aia_jax.load`."""

import dataclasses
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from aia_jax.checkpoints.trained_run import CHECKPOINTS, TrainedRun, open_run
from aia_jax.compile_cache import use_compile_cache
from aia_jax.data.views import Views
from aia_jax.errors import UserError, describe, shorten
from aia_jax.prediction.frame_format import frame_format_note
from aia_jax.prediction.loaded import LoadedNetwork
from aia_jax.weights.class_file import check_names, read_class_file
from aia_jax.weights.files import DESCRIPTION, WEIGHTS, is_weights_folder
from aia_jax.weights.hub_config import HUB_WEIGHTS
from aia_jax.weights.open import DATA_FIELDS, name_classes, open_weights
from aia_jax.weights.open_file import open_file

# What other libraries call the weights in a folder for a model hub, the preferred one first.
_HUB_FILES = (HUB_WEIGHTS, "pytorch_model.bin")


def load(
    path: str | os.PathLike,
    *,
    step: str | int | None = None,
    class_names: Sequence[Any] | str | os.PathLike | None = None,
    views: str | Views | None = None,
    source: str | None = None,
    state_dict: str | None = None,
    **fields: Any,
) -> LoadedNetwork:
    """Opens a trained network by its path alone.

    What nobody has said is a warning, and is in `notes`. Compiled programs are kept in the folder
    of the config's `compile_cache`, unless JAX has been given another.

    Args:
        path: a run's folder, a folder of convert_torch_weights.py or in the form of model hubs, or
            a downloaded file (.pth, .pt, .safetensors, .npz …) of a network that this project
            knows.
        step: of a run, the checkpoint: a number, "best" (None), or "latest".
        class_names: of weights, the names by label, or a file with them (`read_class_file`).
        views: clips × crops of a video, as "2x3"; None: those of the config's `eval.protocol`.
        source: of a downloaded file, the name of its card in aia_jax/weights/source_cards.py.
        state_dict: of a downloaded file with several, the one to take.
        fields: `num_frames`, `crop`, `resize` and `sampling`: how clips are made; `dtype`: of
            activations; `label_kind="multi"`: a video may have several classes (sigmoid). Of a
            downloaded file any field of its network too, such as `temporal="tsm"` or `shift="KV"`,
            where its arrays do not show it; the error says so.

    Raises:
        UserError: (a ValueError) nothing of this kind is there, it is damaged, or its network is
            not known or not decided. The line says what to do.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise UserError(f"load: found {describe(path)}, expected the path of a folder or a file")
    path = Path(path).expanduser()
    if "dtype" in fields:
        fields["compute_dtype"] = jax.numpy.dtype(fields.pop("dtype")).name
    run = _open(path, step, source, state_dict, fields)
    if class_names is not None:
        run = _name_classes(run, class_names)
    if folder := run.config.get("compile_cache"):
        use_compile_cache(folder)
    if views is None:
        views = Views.from_protocol(run.config.eval.protocol)
    views = Views.parse(views) if isinstance(views, str) else views
    notes = tuple(filter(None, (*run.notes, frame_format_note(run))))
    for note in notes:
        warnings.warn(f"{path}: {note}", stacklevel=2)
    return LoadedNetwork(run, views, notes)


def _open(
    path: Path,
    step: str | int | None,
    source: str | None,
    state_dict: str | None,
    fields: Mapping[str, Any],
) -> TrainedRun:
    """Opens what lies at a path, by what it is."""
    if path.name in (WEIGHTS, HUB_WEIGHTS) and is_weights_folder(path.parent):
        path = path.parent
    is_weights = is_weights_folder(path)
    is_run = (path / CHECKPOINTS).is_dir() and not is_weights
    if path.is_dir() and not (is_weights or is_run):  # of another library, from a model hub
        path = next((path / name for name in _HUB_FILES if (path / name).is_file()), path)
    is_file = path.is_file()
    for name, value, fits in (
        ("step", step, is_run),
        ("source", source, is_file),
        ("state_dict", state_dict, is_file),
    ):
        if value is not None and not fits:
            kind = "run's folder" if name == "step" else "downloaded file"
            raise UserError(f"{name}={value!r} belongs to a {kind}, and {path} is none")
    if is_file:
        return open_file(path, fields, source=source, state_dict=state_dict)
    overrides = [
        f"{'data' if field in DATA_FIELDS else 'model'}.{field}={_text(value)}"
        for field, value in fields.items()
    ]
    if is_weights:
        return open_weights(path, overrides=overrides)
    if is_run:
        return open_run(path, "best" if step is None else str(step), overrides=overrides)
    found = "it is a folder without any of them" if path.is_dir() else "there is nothing"
    raise UserError(
        f"{shorten(path)}: {found}; give a run's folder (with {CHECKPOINTS}/), a folder of "
        f"weights (with {DESCRIPTION}), or a downloaded file of weights"
    )


def _text(value: Any) -> str:
    """A field's value as the command line takes it."""
    return ",".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)


def _name_classes(run: TrainedRun, class_names: Sequence[Any] | str | os.PathLike) -> TrainedRun:
    count = len(run.class_names)
    if isinstance(class_names, (str, os.PathLike)):
        names, source = read_class_file(Path(class_names), count), str(class_names)
    else:
        names, source = tuple(class_names), "class_names"
        check_names(names, count, source)
    if run.workdir.is_file():  # the user's word counts more than a download's
        return dataclasses.replace(run, class_names=names, names_known=True)
    return name_classes(run, names, source)
