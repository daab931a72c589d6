"""The description in a folder for a model hub: `config.json` beside `model.safetensors`.

It is that of a folder of weights (`weights.json`) with what hubs and other programs look for: the
names of the classes as `id2label`, how clips are made, the pixels' mean and deviation, and versions
of the libraries.
"""

import contextlib
import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aia_jax.errors import UserError, describe
from aia_jax.json_file import JsonError, parse_json

HUB_CONFIG, HUB_WEIGHTS, HUB_CARD = "config.json", "model.safetensors", "README.md"
LIBRARY = "aia_jax"
FORMAT = 1

_REMEDY = "download it again"
_PACKAGES = (LIBRARY, "jax", "jaxlib", "flax", "numpy")


def is_hub_folder(folder: Path) -> bool:
    """Whether a folder is one that `write_hub_folder` wrote; other libraries' have the same files.

    A config that is damaged is taken for ours where its text names this library: reading it says
    what is wrong.
    """
    try:
        content = (folder / HUB_CONFIG).read_bytes()
    except OSError:
        return False
    try:
        return parse_json(content, dict).get("library_name") == LIBRARY
    except JsonError:
        return f'"library_name": "{LIBRARY}"'.encode() in content


def read_hub_config(folder: Path) -> dict[str, Any]:
    """Reads the description of a hub folder, in the form of a `weights.json`.

    Raises:
        UserError: it is damaged, of a later version, or names its classes otherwise than one by
            one.
    """
    path = folder / HUB_CONFIG
    try:
        config = parse_json(path.read_bytes(), dict)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); {_REMEDY}") from error
    except JsonError as error:
        raise UserError(f"{path} is damaged ({error}); {_REMEDY}") from error
    if config.get("format") != FORMAT:
        raise UserError(
            f"{path} is of format {describe(config.get('format'))}, and this version reads "
            f"{FORMAT}; install the version of {LIBRARY} that its README.md names"
        )
    for key in ("training", "source", "card"):
        if not isinstance(config.get(key), dict | None):
            found = describe(config[key])
            raise UserError(f"{path}: {key} is {found}, expected an object or null; {_REMEDY}")
    names = config.pop("id2label", None)
    config.pop("label2id", None)
    return {**config, "class_names": None if names is None else _class_names(path, names)}


def library_versions() -> dict[str, str]:
    """The versions of Python and of the libraries that compute, as far as they are installed."""
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


def label_tables(class_names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The names of the classes as hubs have them: `id2label` and `label2id`."""
    return {
        "id2label": {str(label): name for label, name in enumerate(class_names)},
        "label2id": {name: label for label, name in enumerate(class_names)},
    }


def _class_names(path: Path, names: Any) -> list[str]:
    """The names by label.

    Raises:
        UserError: they are not one text for each label from 0.
    """
    labels = names if isinstance(names, Mapping) else {}
    listed = [labels.get(str(label)) for label in range(len(labels))]
    if not listed or not all(isinstance(name, str) for name in listed):
        raise UserError(
            f'{path}: id2label is {describe(names)}, expected {{"0": NAME, "1": NAME, …}}; '
            f"{_REMEDY}"
        )
    return listed
