"""Reads a state dict from a file of any known format, or says what the file is instead."""

from pathlib import Path

from aia_jax.errors import UserError, shorten
from aia_jax.weights.about import About, StateDictFile
from aia_jax.weights.file_kinds import find_other_content
from aia_jax.weights.npz_files import read_npz
from aia_jax.weights.safetensors_files import read_about, read_safetensors
from aia_jax.weights.state_dicts import take_state_dict
from aia_jax.weights.torch_files import read_torch_file

ENDINGS = ".pth, .pt, .tar, .ckpt, .bin, .safetensors or .npz"  # of the files that can be read


def read_state_dict_file(path: Path, choice: str | None = None) -> StateDictFile:
    """Reads the weights in a file that somebody has downloaded, and what the file says of them.

    No code that a file contains is run: a checkpoint that holds more than tensors, containers and
    other plain data is refused. PyTorch is not needed.

    Args:
        path: .safetensors and .npz are read as such, all others as files of torch.save.
        choice: which state dict to take, by its name (see `take_state_dict`); None takes the
            weights' moving average where the file holds one.

    Raises:
        UserError: for a file that is missing, unreadable, damaged, unsafe or no state dict, or that
            has none of the name `choice`.
    """
    if not path.is_file():
        kind = "a folder" if path.is_dir() else "no ordinary file" if path.exists() else "missing"
        raise UserError(f"{path} is {kind}; expected a {ENDINGS} file")
    format_name = {".safetensors": "safetensors", ".npz": ".npz"}.get(path.suffix)
    if found := find_other_content(path):
        name = format_name or "a state dict of torch.save"
        raise UserError(f"{path} cannot be read as {name}: {found}")
    if format_name is None:
        file = read_torch_file(path, choice)
    else:
        is_npz = path.suffix == ".npz"
        taken = take_state_dict(path, read_npz(path) if is_npz else read_safetensors(path), choice)
        file = StateDictFile(taken.entries, About() if is_npz else read_about(path), taken.notes)
    for key in file.arrays:
        if not key.isprintable():
            raise UserError(
                f"{path} holds an array under {shorten(ascii(key))}, and no network has such a "
                "key; is the file damaged?"
            )
    return file
