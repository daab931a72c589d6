"""Weights in files: PyTorch checkpoints, safetensors, and the folder that `init_from` reads.

Such a folder holds `weights.safetensors` (variables under their paths, `params/stem/conv/kernel`;
some of a network's may be absent) and `weights.json` (where they came from, what was loaded, and
the digest of the other file).
"""

import contextlib
import hashlib
import json
import os
import pickle
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import ml_dtypes  # noqa: F401  # teaches NumPy, and so safetensors, the name bfloat16
import numpy as np
import safetensors
import safetensors.numpy
from flax.traverse_util import flatten_dict, unflatten_dict

from aia_jax.errors import UserError
from aia_jax.files import atomic_file

WEIGHTS, DESCRIPTION = "weights.safetensors", "weights.json"
FORMAT = 1
_CLASS_NAMES = "aia_jax.class_names"  # key in the metadata of a .safetensors file
# Keys of a checkpoint under which training programs store the state dict.
_STATE_DICT_KEYS = ("state_dict", "model_state_dict", "model")
_ADVICE = "python convert_torch_weights.py --config CONFIG --torch FILE --out DIR writes one"


def read_state_dict(path: Path) -> dict[str, np.ndarray]:
    """Reads a state dict from a .safetensors file or, with PyTorch, from a .pth, .pt or .tar file.

    No code that a file contains is run: a checkpoint that holds more than tensors and plain
    containers is refused.

    Returns:
        Key → array; bfloat16 as float32.

    Raises:
        UserError: for a file that is missing, unreadable, unsafe or no state dict.
    """
    if not path.is_file():
        raise UserError(
            f"{path} is {'a folder' if path.is_dir() else 'missing'}; --torch takes a .pth, .pt, "
            ".tar or .safetensors file"
        )
    if path.suffix == ".safetensors":
        try:
            return safetensors.numpy.load_file(path)
        except (safetensors.SafetensorError, KeyError, TypeError, OSError) as error:
            raise UserError(
                f"{path} cannot be read as safetensors ({error}); is it complete?"
            ) from error
    return _to_arrays(path, _read_torch(path))


def read_class_names(path: Path) -> tuple[str, ...] | None:
    """The class names in a .safetensors file of `write_state_dict`; None for all other files."""
    if path.suffix != ".safetensors":
        return None
    with safetensors.safe_open(path, "numpy") as file:
        names = (file.metadata() or {}).get(_CLASS_NAMES)
    return None if names is None else tuple(json.loads(names))


def _read_torch(path: Path) -> Any:
    try:
        import torch
    except ImportError as error:
        raise UserError(
            f"{path}: only PyTorch reads such files; install the extra `torch`, or give a "
            ".safetensors file"
        ) from error
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (
        pickle.UnpicklingError,
        RuntimeError,
        EOFError,
        OSError,
        ValueError,
        KeyError,
        AttributeError,
    ) as error:
        if named := re.search(r"GLOBAL ([\w.]+)", str(error)):
            raise UserError(
                f"{path} is refused: it holds {named[1]}, and loading more than tensors can run a "
                "stranger's code; where the file is trusted, save its state dict alone: "
                "torch.save(model.state_dict(), FILE)"
            ) from error
        reason = re.split(r"\.\s", str(error))[0] or type(error).__name__
        raise UserError(
            f"{path} cannot be read as a state dict of torch.save ({reason}); is it complete?"
        ) from error


def _to_arrays(path: Path, content: Any) -> dict[str, np.ndarray]:
    """The state dict in a checkpoint, with NumPy arrays.

    Args:
        path: of the checkpoint, for error messages.
        content: of the checkpoint: the state dict, or containers around it.
    """
    import torch

    while isinstance(content, Mapping):
        mappings = (content[k] for k in _STATE_DICT_KEYS if isinstance(content.get(k), Mapping))
        if not (inner := next(mappings, None)):
            break
        content = inner
    if not isinstance(content, Mapping) or not content:
        raise UserError(f"{path} holds {_type_text(content)}, not a state dict (key → tensor)")
    for key, value in content.items():
        if (
            not isinstance(key, str)
            or not isinstance(value, torch.Tensor)
            or value.layout != torch.strided
            or value.is_quantized
        ):
            raise UserError(
                f"{path} is not a state dict: {key!r} holds {_type_text(value)}; expected a tensor "
                "under every key"
            )
    return {
        key: (value.float() if value.dtype == torch.bfloat16 else value).detach().numpy()
        for key, value in content.items()
    }


def _type_text(value: Any) -> str:
    if isinstance(value, Mapping) and not value:
        return "nothing"
    return f"a value of type {type(value).__name__}"


def save_folder(folder: Path, variables: Mapping[str, Any], description: Mapping[str, Any]) -> None:
    """Writes a folder of weights, or replaces its files.

    Args:
        folder: made if needed.
        variables: {"params": …, "batch_stats": …}, all or some of a network's.
        description: goes into `weights.json`; plain values only.

    Raises:
        UserError: if the folder cannot be written.
    """
    arrays = {name: np.asarray(leaf) for name, leaf in flatten_dict(variables, sep="/").items()}
    with _user_errors(folder):
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
    """
    if path.suffix == ".safetensors":
        metadata = {"format": "pt"}
        if class_names is not None:
            metadata[_CLASS_NAMES] = json.dumps(list(class_names))
        with _user_errors(path):
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
    with _user_errors(path):
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
def _user_errors(path: Path) -> Iterator[None]:
    """Turns a failure to write into a UserError that names `path`."""
    try:
        yield
    except (OSError, safetensors.SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path} cannot be written ({reason}); give another place") from error


def load_folder(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Reads a folder of weights.

    Returns:
        Its variables (nested, NumPy), and the content of `weights.json`.

    Raises:
        UserError: if it is not such a folder, or damaged.
    """
    try:
        description = json.loads((folder / DESCRIPTION).read_bytes())
        content = (folder / WEIGHTS).read_bytes()
    except OSError as error:
        raise UserError(
            f"{folder} is not a folder of weights ({error.strerror}: {error.filename}); {_ADVICE}"
        ) from error
    except ValueError as error:
        raise UserError(f"{folder / DESCRIPTION} is damaged ({error}); {_ADVICE}") from error
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise UserError(f"{folder / DESCRIPTION} is not of format {FORMAT}; {_ADVICE}")
    if hashlib.sha256(content).hexdigest() != description.get("sha256"):
        raise UserError(
            f"{folder / WEIGHTS} is damaged: its digest is not the one in {DESCRIPTION}; convert "
            "the weights again"
        )
    return unflatten_dict(safetensors.numpy.load(content), sep="/"), description


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
