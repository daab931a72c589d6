"""The folder of weights that `init_from` reads, and files of weights for PyTorch.

Such a folder holds `weights.safetensors` (variables under their paths, `params/stem/conv/kernel`;
some of a network's may be absent) and `weights.json` (where they came from, what was loaded, and
the digest of the other file).
"""

import contextlib
import errno
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import flax.linen as nn
import numpy as np
import safetensors
import safetensors.numpy
from flax.traverse_util import flatten_dict, unflatten_dict

from aia_jax.errors import RunFailed, UserError, describe, shorten
from aia_jax.files import atomic_file
from aia_jax.models import network_of
from aia_jax.weights.state_dict_files import CLASS_NAMES, are_names

WEIGHTS, DESCRIPTION = "weights.safetensors", "weights.json"
FORMAT = 1
_ADVICE = "python convert_torch_weights.py --config CONFIG --torch FILE --out DIR writes one"


def save_folder(folder: Path, variables: Mapping[str, Any], description: Mapping[str, Any]) -> None:
    """Writes a folder of weights, or replaces its files.

    Args:
        folder: made if needed.
        variables: {"params": …, "batch_stats": …}, all or some of a network's.
        description: goes into `weights.json`; plain values only.

    Raises:
        UserError: if the folder cannot be written.
        RunFailed: if its disk is full. An older folder is left as it was.
    """
    arrays = {name: np.asarray(leaf) for name, leaf in flatten_dict(variables, sep="/").items()}
    with _named_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        # The weights are renamed first, so a folder with a description has all of its weights.
        with (
            atomic_file(folder / DESCRIPTION, "w") as description_file,
            atomic_file(folder / WEIGHTS) as weights_file,
        ):
            _write_safetensors(weights_file, arrays)
            sha256 = digest(Path(weights_file.name))
            content = {"format": FORMAT, "sha256": sha256, **description}
            description_file.write(json.dumps(content, indent=1) + "\n")
            description_file.flush()  # a full disk shows before either file is renamed
            os.fsync(description_file.fileno())


def write_state_dict(
    path: Path, state_dict: Mapping[str, np.ndarray], class_names: Sequence[str] | None
) -> None:
    """Writes a state dict for PyTorch.

    Args:
        path: its ending says the format. .safetensors needs no PyTorch and also holds the names of
            the classes; .pth and .pt need PyTorch.
        state_dict: key → array.
        class_names: by label; None where they are not known.

    Raises:
        UserError: another ending, PyTorch is needed and not there, or the file cannot be written.
        RunFailed: the disk is full.
    """
    if path.suffix == ".safetensors":
        metadata = {"format": "pt"}
        if class_names is not None:
            metadata[CLASS_NAMES] = json.dumps(list(class_names))
        with _named_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_file(path) as file:
                _write_safetensors(file, state_dict, metadata)
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
    with _named_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as file:
            torch.save({key: torch.from_numpy(value) for key, value in state_dict.items()}, file)


def _write_safetensors(
    file: IO, arrays: Mapping[str, np.ndarray], metadata: dict[str, str] | None = None
) -> None:
    """Writes arrays under the name of an open, empty file.

    The library takes a name only, and replaces the file of that name by a new one. `file` is not
    that new file, so this function syncs the new one to the disk itself. (The library could return
    bytes instead, but then the weights would be in memory once more.)
    """
    safetensors.numpy.save_file(dict(arrays), file.name, metadata)
    with Path(file.name).open("rb") as written:
        os.fsync(written.fileno())


@contextlib.contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    """Turns a failure to write into an error that names `path`.

    PyTorch's writer reports its own confusion; the cause is in the context of its exception.
    safetensors' library gives the number of the cause in a text.
    """
    try:
        yield
    except (OSError, safetensors.SafetensorError, RuntimeError) as error:
        cause = error if isinstance(error, OSError) else error.__context__
        number = getattr(cause, "errno", None)
        if match := re.search(r"os error (\d+)", str(error)):
            number = int(match[1])
        reason = os.strerror(number) if number else error
        text = f"{path} cannot be written ({reason}); give another place"
        if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
            raise RunFailed(f"{text} or make room; no part of it is left there") from error
        raise UserError(text) from error


def load_folder(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Reads a folder of weights.

    Returns:
        Its variables (nested, NumPy), and the content of `weights.json`.

    Raises:
        UserError: if it is not such a folder, or damaged.
    """
    description = _read_description(folder)
    try:
        content = (folder / WEIGHTS).read_bytes()
    except OSError as error:
        raise _no_folder(folder, error) from error
    if hashlib.sha256(content).hexdigest() != description.get("sha256"):
        raise UserError(
            f"{folder / WEIGHTS} is damaged: its digest is not the one in {DESCRIPTION}; convert "
            "the weights again"
        )
    try:
        arrays = safetensors.numpy.load(content)
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{folder / WEIGHTS} cannot be read as safetensors ({shorten(str(error))}); {_ADVICE}"
        ) from error
    variables = nest(folder / WEIGHTS, arrays)
    _check_class_names(folder / DESCRIPTION, description.get("class_names"), variables)
    return variables, description


def _read_description(folder: Path) -> dict[str, Any]:
    """The content of a folder's `weights.json`."""
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
    """What `weights.json` says of the `weights.safetensors` beside it; {} of any other file."""
    if path.name != WEIGHTS or not (path.parent / DESCRIPTION).is_file():
        return {}
    description = _read_description(path.parent)
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
