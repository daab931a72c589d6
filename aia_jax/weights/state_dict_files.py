"""Reads a state dict from a file of PyTorch or of safetensors, or says what the file is instead."""

import json
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401  # teaches NumPy, and so safetensors, the name bfloat16
import numpy as np
import safetensors

from aia_jax.errors import UserError, shorten
from aia_jax.weights.torch_files import read_torch_file

CLASS_NAMES = "aia_jax.class_names"  # key in the metadata of a .safetensors file

# Bytes of texts in ASCII, UTF-8 and the like.
_TEXT = bytes([*b"\t\n\r\f", *range(32, 127), *range(128, 256)])


def read_state_dict(path: Path) -> dict[str, np.ndarray]:
    """Reads a state dict from a .safetensors file or, with PyTorch, from a .pth, .pt or .tar file.

    No code that a file contains is run: a checkpoint that holds more than tensors and plain
    containers is refused.

    Returns:
        Key → array; a .pth file's bfloat16 as float32.

    Raises:
        UserError: for a file that is missing, unreadable, damaged, unsafe or no state dict.
    """
    if not path.is_file():
        kind = "a folder" if path.is_dir() else "no ordinary file" if path.exists() else "missing"
        raise UserError(f"{path} is {kind}; --torch takes a .pth, .pt, .tar or .safetensors file")
    is_safetensors = path.suffix == ".safetensors"
    if found := _other_content(path, is_safetensors):
        format_name = "safetensors" if is_safetensors else "a state dict of torch.save"
        raise UserError(f"{path} cannot be read as {format_name}: {found}")
    state_dict = _read_safetensors(path) if is_safetensors else read_torch_file(path)
    for key in state_dict:
        if not key.isprintable():
            raise UserError(
                f"{path} holds an array under {shorten(ascii(key))}, and no network has such a "
                "key; is the file damaged?"
            )
    return state_dict


def _other_content(path: Path, is_safetensors: bool) -> str | None:
    """What a file holds in place of weights, and what to do; None where it may hold weights."""
    with path.open("rb") as file:
        head = file.read(512)
    if not head:
        return "it is empty; download or copy it again"
    if head.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer, which stands for the file; run `git lfs pull` there"
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        return "it is a web page (HTML or XML), as a failed download leaves; download it again"
    if head.startswith(b"\x1f\x8b"):
        return "it is packed with gzip; unpack it first"
    if head.startswith(b"\x89HDF"):
        return "it is an HDF5 file (Keras); give a checkpoint of PyTorch"
    if is_safetensors and head.startswith((b"PK\x03\x04", b"\x80\x02")):
        return "it is a file of torch.save; name it .pth"
    if not is_safetensors and head[7:9] == b"\0{":
        return "it is a safetensors file; name it .safetensors"
    if not head.translate(None, _TEXT):
        first = head.decode(errors="replace").strip().partition("\n")[0]
        return f"it is a text that begins with {first[:40]!r}; give the weights themselves"
    return None


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    arrays = {}
    key = None  # of the array that is being read
    try:
        with safetensors.safe_open(path, "numpy") as file:
            for key in file.keys():  # noqa: SIM118 (the file is no mapping)
                arrays[key] = file.get_tensor(key)
    except MemoryError:
        raise
    except AttributeError as error:  # NumPy has no such type
        raise UserError(
            f"{path}: {shorten(key)} holds numbers of a type that NumPy does not know "
            f"({str(error).rpartition(' ')[2]}); save it as float32, float16 or bfloat16"
        ) from error
    except Exception as error:  # the library and NumPy raise many kinds for a damaged header
        reason = (f"{shorten(key)}: " if key else "") + shorten(str(error))
        raise UserError(
            f"{path} cannot be read as safetensors ({reason}); is it complete?"
        ) from error
    if twice := _repeated_key(path):
        raise UserError(
            f"{path} cannot be read as safetensors: its header has the key {shorten(twice)} twice"
        )
    return arrays


def _repeated_key(path: Path) -> str | None:
    """A key that a safetensors file has twice; the library would take the last one silently."""
    repeated = []

    def keep(pairs: list[tuple[str, Any]]) -> None:
        names = [name for name, _ in pairs]
        if len(set(names)) < len(names):
            repeated.append(next(name for name in names if names.count(name) > 1))

    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        json.loads(file.read(length), object_pairs_hook=keep)
    return next(iter(repeated), None)


def read_class_names(path: Path) -> tuple[str, ...] | None:
    """The class names in a .safetensors file of `write_state_dict`; None for all other files.

    Raises:
        UserError: the file has something else in their place.
    """
    if path.suffix != ".safetensors":
        return None
    with safetensors.safe_open(path, "numpy") as file:
        text = (file.metadata() or {}).get(CLASS_NAMES)
    if text is None:
        return None
    try:
        names = json.loads(text)
    except (ValueError, RecursionError):
        names = None
    if not are_names(names):
        raise UserError(
            f"{path}: its field {CLASS_NAMES} is {shorten(text)}, not a list of names; write the "
            "file again"
        )
    return tuple(names)


def are_names(value: Any) -> bool:
    """Whether a value from JSON is a list of names."""
    return isinstance(value, list) and all(isinstance(name, str) for name in value)
