"""Writes weights for PyTorch: a state dict that the reference's networks load with strict=True.

    python -m aia_jax.weights --to-torch --workdir runs/ssv2_aia_tsm --out aia_tsm.pth
    python -m aia_jax.weights --to-torch --weights weights/aia_tsm --out aia_tsm.safetensors

Takes a run's best checkpoint by validation top-1 (its moving average where there is one), or a
folder of convert_torch_weights.py that holds a whole network. Writing .pth needs PyTorch,
.safetensors does not.
"""

import argparse
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from aia_jax.checkpoints.trained_run import open_run
from aia_jax.errors import UserError, exit_status
from aia_jax.models.from_config import model_from_config
from aia_jax.weights import to_torch
from aia_jax.weights.files import load_folder, write_state_dict


def main(argv: list[str] | None = None) -> None:
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
    options = parser.parse_args(argv)

    if options.workdir is not None:
        run = open_run(options.workdir, options.step)
        where, model, variables, class_names = (
            f"{options.workdir}, step {run.step}",
            run.model,
            run.variables,
            run.class_names,
        )
    else:
        variables, description = load_folder(options.weights)
        where, model, class_names = (
            str(options.weights),
            _model_of(options.weights, description),
            description.get("class_names"),
        )
    state_dict = to_torch(variables, model)
    write_state_dict(options.out, state_dict, class_names)

    head = next(key for key in state_dict if key.endswith("fc.weight"))
    numbers = sum(
        value.size for key, value in state_dict.items() if not key.endswith("num_batches_tracked")
    )
    print(
        f"{where} -> {options.out}: {len(state_dict)} arrays, {numbers:,} numbers, "
        f"{options.out.stat().st_size / 1e6:.1f} MB; "
        f"head {head} {list(state_dict[head].shape)}, attention {model.attention}, temporal "
        f"{model.temporal}"
    )


def _model_of(folder: Path, description: dict[str, Any]) -> Any:
    """The network of a weights folder; those of other tools may not say it."""
    fields = description.get("model")
    if not isinstance(fields, dict):
        raise UserError(
            f"{folder / 'weights.json'} does not say which network the weights are of; convert "
            "them again"
        )
    data = SimpleNamespace(
        num_classes=fields["num_classes"], num_frames=8
    )  # no variable depends on the frames
    return model_from_config(SimpleNamespace(model=SimpleNamespace(**fields), data=data))


if __name__ == "__main__":
    sys.exit(exit_status(main))
