"""Writes weights for PyTorch: a state dict that the reference's networks load with strict=True.

    python -m aia_jax.weights --to-torch --workdir runs/ssv2_aia_tsm --out aia_tsm.pth
    python -m aia_jax.weights --to-torch --weights weights/aia_tsm --out aia_tsm.safetensors

Takes a run's best checkpoint by validation top-1 (its moving average where there is one), or a
folder of convert_torch_weights.py that holds a whole network. Writing .pth needs PyTorch,
.safetensors does not.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn

from aia_jax.checkpoints.trained_run import open_run
from aia_jax.errors import UserError, exit_status
from aia_jax.models import model_from_config, network_of
from aia_jax.weights import to_torch
from aia_jax.weights.files import load_folder, write_state_dict
from aia_jax.weights.names import Variables, match_variables


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
    data = {"num_classes": fields.pop("num_classes"), "num_frames": 8}  # no variable depends on T
    model = model_from_config({"model": fields, "data": data})
    return model, variables, description.get("class_names")


if __name__ == "__main__":
    sys.exit(exit_status(main))
