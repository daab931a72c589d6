"""The folders of weights that `init_from` reads, and files of weights for PyTorch.

Such a folder holds `weights.safetensors` (variables under their paths, `params/stem/conv/kernel`;
some of a network's may be absent) and `weights.json` (where they came from, what was loaded, and
the digest of the other file). A folder for a model hub (`hub_config.py`) holds the same under
other names, and is read here too.
"""

import contextlib
import errno
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import numpy as np
import safetensors
import safetensors.numpy
from flax.traverse_util import flatten_dict, unflatten_dict

from aia_jax.errors import RunFailed, UserError, describe, shorten
from aia_jax.files import atomic_file
from aia_jax.models import network_of
from aia_jax.weights.hub_config import HUB_CONFIG, HUB_WEIGHTS, is_hub_folder, read_hub_config
from aia_jax.weights.safetensors_files import CLASS_NAMES, CONFIG_TEXT, are_names, write_safetensors

WEIGHTS, DESCRIPTION = "weights.safetensors", "weights.json"
FORMAT = 1
_ADVICE = "python convert_torch_weights.py --config CONFIG --torch FILE --out DIR writes one"


def save_folder(
    folder: Path,
    variables: Mapping[str, Any],
    description: Mapping[str, Any],
    names: tuple[str, str] = (WEIGHTS, DESCRIPTION),
) -> None:
    """Writes a folder of weights, or replaces its files.

    Args:
        folder: made if needed.
        variables: {"params": …, "batch_stats": …}, all or some of a network's; the file has numbers
            of 16 bits as float32.
        description: goes into `weights.json`; plain values only.
        names: of the files with the weights and with the description.

    Raises:
        UserError: if the folder cannot be written.
        RunFailed: if its disk is full. An older folder is left as it was.
    """
    arrays = {name: np.asarray(leaf) for name, leaf in flatten_dict(variables, sep="/").items()}
    weights, described = (folder / name for name in names)
    with named_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        # The weights are renamed first, so a folder with a description has all of its weights.
        with (
            atomic_file(described, "w") as text_file,
            atomic_file(weights) as weights_file,
        ):
            write_safetensors(weights_file, arrays, widen=True)
            sha256 = digest(Path(weights_file.name))
            content = {"format": FORMAT, "sha256": sha256, **description}
            text_file.write(json.dumps(content, indent=1) + "\n")
            text_file.flush()  # a full disk shows before either file is renamed
            os.fsync(text_file.fileno())


def write_state_dict(
    path: Path,
    state_dict: Mapping[str, np.ndarray],
    class_names: Sequence[str] | None,
    config_text: str | None = None,
) -> None:
    """Writes a state dict for PyTorch.

    Args:
        path: its ending says the format. .safetensors needs no PyTorch and also holds the names of
            the classes; .pth and .pt need PyTorch.
        state_dict: key → array.
        class_names: by label; None where they are not known.
        config_text: of a program's config, which goes into the file too. A .pth then is as mmengine
            writes it: `state_dict` beside a `meta` with config and classes.

    Raises:
        UserError: another ending, PyTorch is needed and not there, or the file cannot be written.
        RunFailed: the disk is full.
    """
    if path.suffix == ".safetensors":
        metadata = {"format": "pt"}
        if class_names is not None:
            metadata[CLASS_NAMES] = json.dumps(list(class_names))
        if config_text is not None:
            metadata[CONFIG_TEXT] = config_text
        with named_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_file(path) as file:
                write_safetensors(file, state_dict, metadata)
        return
    if path.suffix not in (".pth", ".pt"):
        raise UserError(
            f"--out {path}: the ending says the format; use .safetensors, or .pth (needs PyTorch)"
        )
    try:
        import torch
    except ImportError as error:
        raise UserError(
            f"--out {path}: only PyTorch writes such files; install the extra `torch`, or write "
            ".safetensors"
        ) from error
    content: dict[str, Any] = {key: torch.from_numpy(value) for key, value in state_dict.items()}
    if config_text is not None:
        classes = {} if class_names is None else {"classes": list(class_names)}
        meta = {"cfg": config_text, "dataset_meta": classes}
        content = {"meta": meta, "state_dict": content}
    with named_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as file:
            torch.save(content, file)


@contextlib.contextmanager
def named_errors(path: Path) -> Iterator[None]:
    """Turns a failure to write into an error that names `path`.

    PyTorch's writer reports its own confusion; the cause is in the context of its exception.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        cause = error if isinstance(error, OSError) else error.__context__
        number = getattr(cause, "errno", None)
        reason = os.strerror(number) if number else error
        text = f"{path} cannot be written ({reason}); give another place"
        if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
            raise RunFailed(f"{text} or make room; no part of it is left there") from error
        raise UserError(text) from error


def description_file(folder: Path) -> Path:
    """The file that says what the weights in a folder are, whether it is there or not."""
    is_hub = is_hub_folder(folder) and not (folder / DESCRIPTION).is_file()
    return folder / (HUB_CONFIG if is_hub else DESCRIPTION)


def is_weights_folder(folder: Path) -> bool:
    """Whether a folder holds weights and their description, also as model hubs have it."""
    return description_file(folder).is_file()


def load_folder(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Reads a folder of weights, or one of a model hub.

    Returns:
        Its variables (nested, NumPy), and the content of `weights.json`.

    Raises:
        UserError: if it is not such a folder, or damaged.
    """
    described, description = description_file(folder), read_description(folder)
    is_hub = described.name == HUB_CONFIG
    path = folder / (HUB_WEIGHTS if is_hub else WEIGHTS)
    try:
        found = digest(path)
    except OSError as error:
        raise _no_folder(folder, error) from error
    if found != description.get("sha256"):
        remedy = "download it again" if is_hub else "convert the weights again"
        raise UserError(
            f"{path} is damaged: its digest is not the one in {described.name}; {remedy}"
        )
    try:
        arrays = safetensors.numpy.load_file(path)  # maps the file: memory holds it once
    except (OSError, safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} cannot be read as safetensors ({shorten(str(error))}); {_ADVICE}"
        ) from error
    variables = nest(path, arrays)
    _check_class_names(described, description.get("class_names"), variables)
    return variables, description


def read_description(folder: Path) -> dict[str, Any]:
    """Reads the content of a folder's `weights.json`, or of a hub folder's `config.json`.

    Raises:
        UserError: the folder has none, or it is damaged.
    """
    if description_file(folder).name == HUB_CONFIG:
        return read_hub_config(folder)
    try:
        description = json.loads((folder / DESCRIPTION).read_bytes())
    except OSError as error:
        raise _no_folder(folder, error) from error
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{folder / DESCRIPTION} is damaged ({shorten(str(error))}); {_ADVICE}"
        ) from error
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise UserError(f"{folder / DESCRIPTION} is not of format {FORMAT}; {_ADVICE}")
    return description


def _no_folder(folder: Path, error: OSError) -> UserError:
    where = shorten(error.filename or "")
    return UserError(
        f"{shorten(folder)} is not a folder of weights ({error.strerror}: {where}); {_ADVICE}"
    )


def describe_file(path: Path) -> dict[str, Any]:
    """What its folder says of a `weights.safetensors` or a hub's file; {} of any other file."""
    described = description_file(path.parent)
    name = HUB_WEIGHTS if described.name == HUB_CONFIG else WEIGHTS
    if path.name != name or not described.is_file():
        return {}
    description = read_description(path.parent)
    return description if description.get("sha256") == digest(path) else {}


def nest(path: Path, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Variables under their paths, such as `params/stem/conv/kernel`, as nested dicts.

    Args:
        path: of the file that they come from, for error messages.
        arrays: path of a variable → array.

    Raises:
        UserError: one of the paths is no variable's, or goes through another variable.
    """
    for name in arrays:
        collection, *rest = parts = name.split("/")
        inner = ["/".join(parts[:length]) for length in range(1, len(parts))]
        if collection not in ("params", "batch_stats") or not rest or "" in rest:
            raise UserError(f"{path} holds {shorten(name)}, which is no variable; {_ADVICE}")
        if outer := next((other for other in inner if other in arrays), None):
            raise UserError(
                f"{path} holds both {shorten(outer)} and {shorten(name)}, of which one only can be "
                f"a variable; {_ADVICE}"
            )
    return {"params": {}} | unflatten_dict(dict(arrays), sep="/")


def _check_class_names(path: Path, names: Any, variables: Mapping[str, Any]) -> None:
    """Checks that the class names are a list, one for each class of the head.

    Args:
        path: of the file with the names, for error messages.
        names: found there; None: it has none.
        variables: of the same folder.
    """
    if names is None:
        return
    if not are_names(names):
        raise UserError(f"{path}: class_names is {describe(names)}, not a list of names; {_ADVICE}")
    head = variables["params"].get("head", {})
    for name, leaf in head.items() if isinstance(head, Mapping) else ():
        if np.shape(leaf)[-1:] != (len(names),):
            raise UserError(
                f"{path}: class_names has {len(names)} names, and params/head/{name} is "
                f"{list(np.shape(leaf))}; {_ADVICE}"
            )


def shown_fields(folder: Path, description: Mapping[str, Any], model: nn.Module) -> dict[str, Any]:
    """Fields of the weights' network that the keys of their source showed.

    A folder that an older version wrote does not say them, but has the keys in its report.

    Args:
        folder: of weights, for error messages.
        description: its `weights.json`.
        model: a network of the same family.

    Raises:
        UserError: the fields are those of no network here.
    """
    if isinstance(shown := description.get("shown"), dict):
        return shown
    try:
        keys = [entry["key"] for entry in description["report"]["loaded"]]
        return network_of(model).torch_names.shown_fields(keys)
    except (KeyError, TypeError):  # another tool may have written the folder, without a report
        return {}
    except UserError as error:
        raise UserError(f"{folder}: {error}") from error


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
