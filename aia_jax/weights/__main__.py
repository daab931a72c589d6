"""Writes weights for PyTorch: a state dict that the reference's networks load with strict=True.

    python -m aia_jax.weights --to-torch --workdir runs/ssv2_aia_tsm --out aia_tsm.pth
    python -m aia_jax.weights --to-torch --weights weights/aia_tsm --out aia_tsm.safetensors

Takes a run's best checkpoint by validation top-1 (its moving average where there is one), or a
folder of convert_torch_weights.py that holds a whole network. Writing .pth needs PyTorch,
.safetensors does not.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn

from aia_jax.checkpoints.trained_run import open_run
from aia_jax.errors import UserError, describe, exit_status
from aia_jax.models import NETWORKS, model_fields, model_from_config, network_of
from aia_jax.weights import to_torch
from aia_jax.weights.files import load_folder, shown_fields, write_state_dict
from aia_jax.weights.names import Variables, match_variables

_MOST = 10**6  # above any channel, class or block count of a network


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m aia_jax.weights", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "--to-torch",
        action="store_true",
        required=True,
        help="what to do; convert_torch_weights.py is the other way",
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--workdir", type=Path, metavar="DIR", help="folder of a run")
    source.add_argument(
        "--weights", type=Path, metavar="DIR", help="folder of convert_torch_weights.py"
    )
    parser.add_argument(
        "--step",
        default="best",
        metavar="STEP",
        help="checkpoint of the run: a step, best (default), or latest",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help=".pth or .safetensors"
    )
    return parser


def main(argv: list[str] | None = None) -> None:
    options = make_parser().parse_args(argv)
    if options.workdir is not None:
        run = open_run(options.workdir, options.step)
        title, model, variables = f"{options.workdir}, step {run.step}", run.model, run.variables
        class_names = run.class_names
    else:
        title = str(options.weights)
        model, variables, class_names = _open_folder(options.weights)

    state_dict = to_torch(variables, model)
    write_state_dict(options.out, state_dict, class_names)

    numbers = sum(
        value.size for key, value in state_dict.items() if not key.endswith("num_batches_tracked")
    )
    head = _head_key(variables, model)
    print(
        f"{title} -> {options.out}: {len(state_dict)} arrays, {numbers:,} numbers, "
        f"{options.out.stat().st_size / 1e6:.1f} MB; "
        f"head {head} {list(state_dict[head].shape)}, {model.describe()}"
    )


def _head_key(variables: Variables, model: nn.Module) -> str:
    """The head's key in the state dict of the reference."""
    targets = match_variables(variables, model)
    (head,) = (key for key, target in targets.items() if target.variable == "params/head/kernel")
    return network_of(model).torch_names.reference_key(head, model)


def _open_folder(folder: Path) -> tuple[nn.Module, dict[str, Any], Sequence[str] | None]:
    """The network, its variables and the names of its classes, from a folder of weights.

    Raises:
        UserError: it is no such folder, or it does not say which network the weights are of, as may
            be the case if another tool made it.
    """
    variables, description = load_folder(folder)
    fields = description.get("model")
    if not isinstance(fields, dict):
        raise UserError(
            f"{folder / 'weights.json'} does not say which network the weights are of; convert "
            "them again"
        )
    fields = dict(fields)
    data = {"num_classes": fields.pop("num_classes", None), "num_frames": 8}  # any T will do
    try:
        _check_types({**fields, **data})
        model = model_from_config({"model": fields, "data": data})
    except UserError as error:
        raise UserError(
            f"{folder / 'weights.json'}: its section model is of no network ({error}); convert the "
            "weights again"
        ) from error
    # An older version did not take the blocks that have the shift from the keys of the source.
    shown = shown_fields(folder, description, model)
    different = [
        f"model.{field}={v}" for field, v in shown.items() if getattr(model, field, None) != v
    ]
    if different:
        raise UserError(
            f"{folder}: by their keys the weights are of a network with {', '.join(different)}, "
            "and weights.json describes another one; convert them again"
        )
    return model, variables, description.get("class_names")


def _check_types(fields: Mapping[str, Any]) -> None:
    """Checks that the fields of a network in JSON have the types that its class declares."""
    name = fields.get("name", "resnet")
    if not isinstance(name, str) or name not in NETWORKS:
        raise UserError(f"name: found {describe(name)}, expected {' or '.join(NETWORKS)}")
    for field, default in {"num_classes": 1, **model_fields(name)}.items():
        value = fields.get(field, default)
        numbers = [value]
        if isinstance(default, tuple):
            numbers = list(value) if isinstance(value, list | tuple) else []
            fits = isinstance(value, list | tuple) and all(type(item) is int for item in value)
        else:
            fits = type(value) is type(default) or (type(default), type(value)) == (float, int)
        if not fits:
            kind = "list of int" if isinstance(default, tuple) else type(default).__name__
            raise UserError(f"{field}: found {describe(value)}, expected {kind}")
        if any(type(number) is int and number > _MOST for number in numbers):
            raise UserError(f"{field}: found {describe(value)}, expected at most {_MOST:,}")


if __name__ == "__main__":
    sys.exit(exit_status(main))
