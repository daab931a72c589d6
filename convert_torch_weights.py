"""Turns a PyTorch checkpoint into the folder that a recipe's `init_from` takes.

    python convert_torch_weights.py --config configs/ssv2_aia_tsm.py \\
        --torch resnet50.pth --out weights/resnet50

Recognises by itself what the file is, and says so: a plain ResNet of torchvision or timm,
mit-han-lab's TSM, a checkpoint of the AIA authors, or what `python -m aia_jax.weights --to-torch`
wrote. Reading .pth needs PyTorch, .safetensors does not. What the network has and the file lacks
(the attention, for ImageNet weights) is left out and starts fresh in training.
"""

import argparse
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from aia_jax import config as configs
from aia_jax import weights
from aia_jax.errors import exit_status
from aia_jax.models import model_from_config, network_of
from aia_jax.weights.files import describe_file, digest, nest, save_folder, shown_fields
from aia_jax.weights.open import GEOMETRY
from aia_jax.weights.recognise import is_own, recognise
from aia_jax.weights.state_dict_files import read_class_names, read_state_dict


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--torch", required=True, type=Path, metavar="FILE", help=".pth, .pt, .tar or .safetensors"
    )
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder to write")


def main(argv: list[str] | None = None) -> None:
    options = configs.parse(argv, __doc__.splitlines()[0], add_flags, workdir=False)
    config, data = options.config, options.config.data

    # ---- Read the file, and say what it is -------------------------------------------------------

    state_dict = read_state_dict(options.torch)
    print(f"{options.torch}: {recognise(state_dict)}")

    # ---- The variables of the config's network: only their shapes --------------------------------

    model = model_from_config(config)
    described = describe_file(options.torch)  # the file may be of a folder of weights
    if is_own(state_dict):
        shown = shown_fields(options.torch.parent, described, model)
    else:
        shown = network_of(model).torch_names.shown_fields(state_dict)
    changed = {field: v for field, v in shown.items() if config.model[field] != v}
    flags = [f"--config.model.{field}={value}" for field, value in changed.items()]
    if changed:  # no shape shows these fields: the file decides
        found = ", ".join(f"model.{field}={value}" for field, value in changed.items())
        print(f"note: the file's keys show {found}, unlike the config; the file is right")
        config.model.update(changed)
        model = model_from_config(config)
    clips = jax.ShapeDtypeStruct((1, data.num_frames, data.crop, data.crop, 3), jnp.float32)
    fresh = jax.eval_shape(model.init, jax.random.key(0), clips)

    # ---- Load what fits --------------------------------------------------------------------------

    if is_own(state_dict):
        variables, report = weights.load_own(nest(options.torch, state_dict), fresh, model)
    else:
        variables, report = weights.load_matching(state_dict, fresh, model)
    del state_dict  # writing needs as much memory again

    # ---- Write what was loaded; the rest starts fresh in training --------------------------------

    leaves = flatten_dict(variables, sep="/")
    loaded = {entry.variable: leaves[entry.variable] for entry in report.loaded}
    description = {
        "source": {"file": str(options.torch), "sha256": digest(options.torch)},
        "config": options.config_name,
        "model": {**config.model.to_dict(), "num_classes": model.num_classes},
        "shown": shown,
        "data": {field: data[field] for field in GEOMETRY},
        "class_names": read_class_names(options.torch) or described.get("class_names"),
        "report": report.as_json(),
    }
    save_folder(options.out, unflatten_dict(loaded, sep="/"), description)

    print(f"-> {options.out}\n{report}")
    if not data.num_classes and "params/head/kernel" in report.fresh:
        print(
            "note: data.num_classes is 0, so the head starts fresh; where the file has a head of N "
            "classes, --config.data.num_classes=N keeps it"
        )
    start = " ".join([f"--config.init_from={options.out}", *flags])
    print(f"To train from these weights, add {start} to the command of train.py")


if __name__ == "__main__":
    sys.exit(exit_status(main))
