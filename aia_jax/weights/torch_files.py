"""PyTorch's checkpoints as NumPy arrays, if their bytes are whole and nothing in them would run."""

import re
import sys
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from aia_jax.errors import UserError, describe, shorten

# Keys of a checkpoint under which training programs store the state dict.
_STATE_DICT_KEYS = ("state_dict", "model_state_dict", "model")
_DAMAGED = "the file is damaged: download or copy it again"
_FOLDER = 0x10  # attribute of a zip entry; PyTorch reads nothing for it, and says nothing
_BUFFER = 1 << 20  # bytes of a record that are in memory while its CRC is computed


def read_torch_file(path: Path) -> dict[str, np.ndarray]:
    """Reads the state dict of a file of torch.save, of its zip format or of the older one.

    The older format has no checksums: damaged numbers cannot be told from others there.

    Returns:
        Key → array; bfloat16 as float32.

    Raises:
        UserError: PyTorch is not there; the file is damaged, is no state dict, holds anything that
            could run code, or holds a tensor that NumPy has no type for.
    """
    try:
        import torch
    except ImportError as error:
        raise UserError(
            f"{path}: only PyTorch reads such files; install the extra `torch`, or give a "
            ".safetensors file"
        ) from error
    with path.open("rb") as file:
        is_archive = file.read(4) == b"PK\x03\x04"  # as PyTorch tells the two formats apart
    checksums = _check_archive(path) if is_archive else None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch's own deprecations are not the user's
            content = torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # a damaged pickle makes PyTorch raise nearly any exception
        raise _refusal(path, error) from error
    tensors = _find_state_dict(path, content)
    if checksums is not None:
        _check_storages(path, tensors, checksums)
    arrays = {}
    for key, value in tensors.items():
        if value.dtype == torch.bfloat16:
            value = value.float()
        arrays[key] = value.detach().resolve_conj().resolve_neg().numpy()
    return arrays


def _refusal(path: Path, error: Exception) -> UserError:
    """What to say of a file that PyTorch does not read."""
    if named := re.search(r"GLOBAL ([\w.]+)", str(error)):
        return UserError(
            f"{path} is refused: it holds {named[1]}, and loading more than tensors can run a "
            "stranger's code; where the file is trusted, save its state dict alone: "
            "torch.save(model.state_dict(), FILE)"
        )
    return UserError(
        f"{path} cannot be read as a state dict of torch.save ({_reason(error)}); is it complete?"
    )


def _reason(error: Exception) -> str:
    """The words of an exception that say what was found, in one line."""
    text = getattr(error, "strerror", None) or str(error)
    if unpickling := re.search(r"WeightsUnpickler error: *([^\n]+)", text):
        text = unpickling[1]
    text = re.split(r"\.\s|\n", text.strip())[0]
    # The text of a KeyError, for one, is the key alone.
    return shorten(text if " " in text else f"{type(error).__name__} {text}".strip())


def _check_archive(path: Path) -> Counter[int] | None:
    """Compares the records of a zip archive with their CRC-32, which torch.load does not.

    A tensor's record that differs is left to `_check_storages`, which knows its key.

    Returns:
        The CRC-32 of every tensor's record, and how many have it; None where the archive has no
        checksums, or where PyTorch will turn the bytes of its numbers round.

    Raises:
        UserError: a record is damaged, or the archive is a program of TorchScript.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            records = {record.filename.partition("/")[2]: record for record in archive.infolist()}
            if "constants.pkl" in records and any(name.startswith("code/") for name in records):
                raise UserError(
                    f"{path} is a TorchScript program; save its state dict alone: "
                    "torch.save(torch.jit.load(FILE).state_dict(), OTHER)"
                )
            # Under torch.serialization.set_crc32_options(False) all checksums are 0.
            if not any(record.CRC for record in records.values()):
                return None
            order = sys.byteorder.encode()
            if "byteorder" in records:
                order = archive.read(records["byteorder"])
            turned = order != sys.byteorder.encode()
            for name, record in records.items():
                if record.external_attr & _FOLDER and not record.is_dir():
                    raise zipfile.BadZipFile(f"{record.filename} is marked as a folder")
                try:
                    with archive.open(record) as content:
                        while content.read(_BUFFER):
                            pass
                except zipfile.BadZipFile as error:
                    if turned or not name.startswith("data/") or "CRC" not in str(error):
                        raise
    except UserError:
        raise
    except Exception as error:  # zipfile raises many kinds for a directory that makes no sense
        raise UserError(
            f"{path} cannot be read as a state dict of torch.save ({_reason(error)}): {_DAMAGED}"
        ) from error
    if turned:
        return None
    return Counter(record.CRC for name, record in records.items() if name.startswith("data/"))


def _check_storages(path: Path, tensors: Mapping[str, Any], checksums: Counter[int]) -> None:
    """Checks that the numbers behind every tensor are a record of the archive of their own.

    Args:
        path: of the archive, for error messages.
        tensors: key → tensor, as PyTorch has read them.
        checksums: the CRC-32 of every record of numbers; those that are found are taken away.
    """
    import torch

    whole: dict[int, bool] = {}  # address of a storage, which tensors may share → whether it is
    for key, value in tensors.items():
        storage = value.untyped_storage()
        if storage.data_ptr() not in whole:
            content = torch.empty(0, dtype=torch.uint8).set_(storage).numpy()
            checksum = zlib.crc32(content)
            whole[storage.data_ptr()] = checksums[checksum] > 0
            checksums[checksum] -= 1
        if not whole[storage.data_ptr()]:
            raise UserError(
                f"{path}: the numbers of {shorten(key)} are not those that the archive's checksum "
                f"(CRC-32) was taken of; {_DAMAGED}"
            )


def _find_state_dict(path: Path, content: Any) -> Mapping[str, Any]:
    """The state dict in a checkpoint: key → tensor of numbers that NumPy knows, or bfloat16.

    Args:
        path: of the checkpoint, for error messages.
        content: of the checkpoint: the state dict, or containers around it.
    """
    import torch

    seen: list[int] = []  # a container may hold itself
    while isinstance(content, Mapping) and id(content) not in seen:
        seen.append(id(content))
        mappings = (content[k] for k in _STATE_DICT_KEYS if isinstance(content.get(k), Mapping))
        if not (inner := next(mappings, None)):
            break
        content = inner
    if not isinstance(content, Mapping) or not content:
        raise UserError(f"{path} holds {_type_text(content)}, not a state dict (key → tensor)")
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, torch.Tensor):
            raise UserError(
                f"{path} is not a state dict: {describe(key)} holds {_type_text(value)}; "
                "expected a tensor under every key"
            )
        if kind := _kind_without_numbers(value):
            raise UserError(
                f"{path}: {shorten(key)} holds {kind}; save it as an ordinary tensor of float32, "
                "float16 or bfloat16"
            )
    return content


def _kind_without_numbers(value: Any) -> str | None:
    """What a tensor is from which NumPy cannot take plain numbers; None for all others."""
    import torch

    if value.is_nested or value.layout != torch.strided:
        return f"a {'nested' if value.is_nested else 'sparse'} tensor"
    if value.is_quantized:
        return f"a quantised tensor ({value.dtype})"
    if value.is_meta:
        return "a tensor without numbers (on the device meta)"
    if value.dtype == torch.bfloat16:
        return None
    try:
        torch.empty(0, dtype=value.dtype).numpy()
    except (TypeError, RuntimeError, KeyError):
        return f"numbers of {value.dtype}"
    return None


def _type_text(value: Any) -> str:
    if isinstance(value, Mapping) and not value:
        return "nothing"
    return f"a value of type {type(value).__name__}"
