"""Files of safetensors from and to NumPy arrays, and what the files beside them say."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import ml_dtypes  # teaches NumPy, and so safetensors, the name bfloat16
import numpy as np
import safetensors

from aia_jax.errors import UserError, shorten
from aia_jax.json_file import JsonError, parse_json
from aia_jax.weights.about import About, find_names

# Keys in the metadata of a .safetensors file.
CLASS_NAMES, CONFIG_TEXT = "aia_jax.class_names", "aia_jax.config_text"
_CONFIG = "config.json"  # what model hubs keep beside the weights
# NumPy's name of a type → the format's.
_TYPES = {
    **{f"float{bits}": f"F{bits}" for bits in (16, 32, 64)},
    **{f"int{bits}": f"I{bits}" for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": f"U{bits}" for bits in (8, 16, 32, 64)},
    "bfloat16": "BF16",
    "bool": "BOOL",
}


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """Reads the arrays of a .safetensors file, which has no checksums.

    Raises:
        UserError: the file is damaged, or holds numbers of a type that NumPy lacks.
    """
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


def read_about(path: Path) -> About:
    """What a .safetensors file says beside the numbers, or the `config.json` beside it.

    Raises:
        UserError: the file has something else in place of the class names of `write_state_dict`.
    """
    names = read_class_names(path)
    if text := _read_metadata(path).get(CONFIG_TEXT):
        return About(names, config_text=text)
    try:
        content = (path.parent / _CONFIG).read_bytes()
        config = parse_json(content, dict)
    except (OSError, JsonError):
        return About(names)
    kinds = config.get("architectures") or config.get("architecture") or config.get("model_type")
    kind = kinds[0] if isinstance(kinds, list) else kinds
    return About(
        class_names=names or find_names(config),
        config_text=content.decode("utf-8-sig"),
        source=f"{_CONFIG} of {shorten(kind)}" if isinstance(kind, str) else _CONFIG,
    )


def read_class_names(path: Path) -> tuple[str, ...] | None:
    """The class names in a .safetensors file of `write_state_dict`; None for all other files.

    Raises:
        UserError: the file has something else in their place.
    """
    text = _read_metadata(path).get(CLASS_NAMES)
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


def _read_metadata(path: Path) -> dict[str, str]:
    with safetensors.safe_open(path, "numpy") as file:
        return file.metadata() or {}


def are_names(value: Any) -> bool:
    """Whether a value from JSON is a list of names."""
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def write_safetensors(
    file: IO[bytes],
    arrays: Mapping[str, np.ndarray],
    metadata: Mapping[str, str] | None = None,
    widen: bool = False,
) -> None:
    """Writes arrays one by one, in the order of the library's own files, and syncs the disk.

    The library takes all arrays at once, so that memory holds those of another type twice.

    Args:
        file: open and empty.
        arrays: name → array.
        metadata: for the file's header.
        widen: whether to write float16 and bfloat16 as float32.
    """
    types = {name: array.dtype for name, array in arrays.items()}
    if widen:
        half = (np.float16, ml_dtypes.bfloat16)
        types = {name: np.dtype("f4") if dtype in half else dtype for name, dtype in types.items()}
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    place = 0
    order = sorted(arrays, key=lambda name: (-types[name].itemsize, name))  # keeps all aligned
    for name in order:
        end = place + arrays[name].size * types[name].itemsize
        shape, kind = list(arrays[name].shape), _TYPES[types[name].name]
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [place, end]}
        place = end
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)
    for name in order:
        array = np.ascontiguousarray(arrays[name], types[name].newbyteorder("<"))
        file.write(array.reshape(-1).view(np.uint8))
    file.flush()
    os.fsync(file.fileno())
