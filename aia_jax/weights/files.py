"""Weights in files: PyTorch checkpoints and safetensors in, and the folder that `init_from` reads.

A folder holds `weights.safetensors` (variables by their paths, `params/stem/conv/kernel`; some of a
net's may be absent) and `weights.json` (where they came from, what was loaded, and the digest of
the other file).
"""

import contextlib
import hashlib
import json
import pickle
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401  # teaches NumPy, and so safetensors, the name bfloat16
import numpy as np
import safetensors
import safetensors.numpy
from flax.traverse_util import flatten_dict, unflatten_dict

from aia_jax.errors import UserError

WEIGHTS, DESCRIPTION = "weights.safetensors", "weights.json"
FORMAT = 1
_CLASS_NAMES = "aia_jax.class_names"  # metadata of a .safetensors file
_NESTED = (
    "state_dict",
    "model_state_dict",
    "model",
)  # under what training programs keep the state dict in a checkpoint
_HOW = "python convert_torch_weights.py --config CONFIG --torch FILE --out DIR writes one"


def read_state_dict(path: Path) -> dict[str, np.ndarray]:
    """Reads a PyTorch checkpoint (.pth, .pt, .tar; needs PyTorch) or a .safetensors file (does
    not).

    Nothing that the file contains is run: a checkpoint that holds more than tensors and plain
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
    return _arrays(path, _read_torch(path))


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
                "stranger's code; "
                "where the file is trusted, save its state dict alone: "
                "torch.save(model.state_dict(), FILE)"
            ) from error
        reason = re.split(r"\.\s", str(error))[0] or type(error).__name__
        raise UserError(
            f"{path} cannot be read as a state dict of torch.save ({reason}); is it complete?"
        ) from error


def _arrays(path: Path, content: Any) -> dict[str, np.ndarray]:
    """The state dict in a checkpoint, with NumPy arrays."""
    import torch

    while isinstance(content, Mapping) and (
        inner := next((content[k] for k in _NESTED if isinstance(content.get(k), Mapping)), None)
    ):
        content = inner
    if not isinstance(content, Mapping) or not content:
        raise UserError(f"{path} holds {_kind(content)}, not a state dict (key → tensor)")
    for key, value in content.items():
        if (
            not isinstance(key, str)
            or not isinstance(value, torch.Tensor)
            or value.layout != torch.strided
            or value.is_quantized
        ):
            raise UserError(
                f"{path} is not a state dict: {key!r} holds {_kind(value)}; expected a tensor "
                "under every key"
            )
    return {
        key: (value.float() if value.dtype == torch.bfloat16 else value).detach().numpy()
        for key, value in content.items()
    }


def _kind(value: Any) -> str:
    return (
        "nothing"
        if isinstance(value, Mapping) and not value
        else f"a value of type {type(value).__name__}"
    )


def save_folder(folder: Path, variables: Mapping[str, Any], description: Mapping[str, Any]) -> None:
    """Writes a weights folder; one that is there is replaced.

    Args:
        variables: {"params": …, "batch_stats": …}, all or some of a net's.
        description: goes into `weights.json`; plain values only.

    Raises:
        UserError: if the folder cannot be written.
    """
    weights, described = folder / f"{WEIGHTS}.unfinished", folder / f"{DESCRIPTION}.unfinished"
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        safetensors.numpy.save_file(
            {name: np.asarray(leaf) for name, leaf in flatten_dict(variables, sep="/").items()},
            weights,
        )
        described.write_text(
            json.dumps({"format": FORMAT, "sha256": digest(weights), **description}, indent=1)
            + "\n"
        )
        weights.replace(folder / WEIGHTS)
        described.replace(folder / DESCRIPTION)


def write_state_dict(
    path: Path, state_dict: Mapping[str, np.ndarray], class_names: Sequence[str] | None
) -> None:
    """Writes a state dict for PyTorch: .safetensors (without PyTorch; it also holds the class
    names), or a flat .pth (with PyTorch).

    Raises:
        UserError: another ending, PyTorch is needed and not there, or the file cannot be written.
    """
    unfinished = path.with_name(f"{path.name}.unfinished")
    if path.suffix == ".safetensors":
        metadata = {"format": "pt"} | (
            {_CLASS_NAMES: json.dumps(list(class_names))} if class_names is not None else {}
        )
        with _writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            safetensors.numpy.save_file(dict(state_dict), unfinished, metadata)
            unfinished.replace(path)
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
    with _writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with unfinished.open("wb") as file:
            torch.save({key: torch.from_numpy(value) for key, value in state_dict.items()}, file)
        unfinished.replace(path)


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, safetensors.SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path} cannot be written ({reason}); give another place") from error


def load_folder(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Reads a weights folder.

    Returns:
        Its variables (nested, NumPy), and what `weights.json` says.

    Raises:
        UserError: if it is not such a folder, or damaged.
    """
    try:
        description = json.loads((folder / DESCRIPTION).read_bytes())
        content = (folder / WEIGHTS).read_bytes()
    except OSError as error:
        raise UserError(
            f"{folder} is not a folder of weights ({error.strerror}: {error.filename}); {_HOW}"
        ) from error
    except ValueError as error:
        raise UserError(f"{folder / DESCRIPTION} is damaged ({error}); {_HOW}") from error
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise UserError(f"{folder / DESCRIPTION} is not of format {FORMAT}; {_HOW}")
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
