"""Writes weights for other programs: for PyTorch, or as a folder for a model hub.

    python -m aia_jax.weights runs/ssv2_aia_tsm --format aia --out aia_tsm.pth
    python -m aia_jax.weights weights/tsm --format mmaction2 --out tsm.safetensors
    python -m aia_jax.weights runs/ssv2_aia_tsm --hub hub/aia_tsm --license cc-by-4.0

Takes a run's best checkpoint by its validations (its moving average where there is one), or a
folder of weights that holds a whole network: of convert_torch_weights.py, or from a model hub.

--format aia writes the state dict that the networks' authors load with strict=True; mmaction2,
torchvision, timm and transformers the names of these programs, if they have such a network.
Writing .pth needs PyTorch, .safetensors does not. --hub writes model.safetensors, config.json and
README.md with a YAML header, for the hub's own tool to publish; `aia_jax.load` reads them back.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from aia_jax.checkpoints.trained_run import TrainedRun, open_run
from aia_jax.errors import UserError, exit_status, shorten
from aia_jax.models import NETWORKS, network_of
from aia_jax.weights import to_torch
from aia_jax.weights.convert_back import REFERENCE, format_names
from aia_jax.weights.files import write_state_dict
from aia_jax.weights.hub import write_hub_folder
from aia_jax.weights.hub_config import HUB_CARD, HUB_WEIGHTS
from aia_jax.weights.open import open_trained, open_weights


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m aia_jax.weights",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "source", nargs="?", type=Path, metavar="DIR", help="folder of a run or of weights"
    )
    source.add_argument("--workdir", type=Path, metavar="DIR", help="folder of a run")
    source.add_argument("--weights", type=Path, metavar="DIR", help="folder of weights")
    form = parser.add_mutually_exclusive_group(required=True)
    formats = [name for row in NETWORKS.values() for name in format_names(row.torch_names)]
    form.add_argument(
        "--format",
        choices=list(dict.fromkeys(formats)),
        help="whose names the arrays get in --out",
    )
    form.add_argument("--to-torch", action="store_true", help=f"the same as --format {REFERENCE}")
    form.add_argument("--hub", type=Path, metavar="DIR", help="folder to write for a model hub")
    parser.add_argument(
        "--step",
        default="best",
        metavar="STEP",
        help="checkpoint of the run: a step, best (default), or latest",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help=".pth or .safetensors")
    parser.add_argument(
        "--license",
        metavar="NAME",
        help="of the weights, as hubs abbreviate it (such as apache-2.0), for --hub",
    )
    return parser


def main(argv: list[str] | None = None) -> None:
    parser = make_parser()
    options = parser.parse_args(argv)
    if (options.out is None) == (options.hub is None):
        parser.error("--format and --to-torch need --out FILE, and --hub does not take it")
    if options.license is not None and options.hub is None:
        parser.error("--license belongs to --hub")
    run = _open(options)
    title = str(run.workdir) + ("" if run.step is None else f", step {run.step}")
    if options.hub is None:
        _write_file(options.out, run, options.format or REFERENCE, title)
        return
    write_hub_folder(options.hub, run, options.license)
    for note in run.notes:
        print(f"note: {note}")
    if options.license is None:
        print("note: without --license the card says that nobody has chosen a license")
    size = (options.hub / HUB_WEIGHTS).stat().st_size / 1e6
    print(
        f"{title} -> {options.hub}: {run.model.describe()}, {len(run.class_names)} classes, "
        f"{size:.1f} MB; read {options.hub / HUB_CARD} before you publish it"
    )


def _open(options: argparse.Namespace) -> TrainedRun:
    if options.workdir is not None:
        return open_run(options.workdir, options.step)
    if options.weights is not None:
        return open_weights(options.weights)
    if options.source.is_file():
        raise UserError(
            f"{shorten(options.source)} is a file; give a folder: convert_torch_weights.py makes "
            "one of a downloaded file"
        )
    return open_trained(options.source, options.step)


def _write_file(path: Path, run: TrainedRun, format_name: str, title: str) -> None:
    """Writes a state dict, and prints what it is."""
    state_dict = to_torch(run.variables, run.model, run.clip_shape, format_name)
    describe = getattr(network_of(run.model).torch_names, "config_of_format", None)
    config_text = None
    if describe is not None and format_name != REFERENCE:
        config_text = describe(run.model, format_name)
    write_state_dict(path, state_dict, run.class_names if run.names_known else None, config_text)

    numbers = sum(
        value.size for key, value in state_dict.items() if not key.endswith("num_batches_tracked")
    )
    kernel = np.asarray(run.variables["params"]["head"]["kernel"]).T
    head = next(key for key, value in state_dict.items() if np.array_equal(value, kernel))
    print(
        f"{title} -> {path}: {len(state_dict)} arrays, {numbers:,} numbers, "
        f"{path.stat().st_size / 1e6:.1f} MB; head {head} {list(kernel.shape)}, "
        f"{run.model.describe()}"
    )


if __name__ == "__main__":
    sys.exit(exit_status(main))
