"""Turns a public checkpoint into the folder that a recipe's `init_from` takes.

    python convert_torch_weights.py --config configs/ssv2_aia_tsm.py \\
        --torch resnet50.pth --out weights/resnet50

Recognises by itself what the file is, and says so: ImageNet weights of torchvision, timm and
Google (.npz), checkpoints of the networks' authors, or what `python -m aia_jax.weights --to-torch`
wrote. PyTorch is not needed. What the network has and the file lacks (the attention, for ImageNet
weights) is left out and starts fresh in training.

A checkpoint does not say how clips are made and tested. `--source` names where it comes from, and
the folder keeps what its publisher says of that, for predict.py and `eval.py --protocol published`.
"""

import argparse
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from aia_jax import config as configs
from aia_jax import weights
from aia_jax.errors import UserError, exit_status
from aia_jax.models import clip_shape, model_from_config, network_of
from aia_jax.weights.files import describe_file, digest, nest, save_folder, shown_fields
from aia_jax.weights.names import WeightsError
from aia_jax.weights.open import GEOMETRY
from aia_jax.weights.recognise import configured_fields, is_own, other_network, recognise
from aia_jax.weights.source_cards import CARDS
from aia_jax.weights.source_choice import apply_card, choose_card, file_fields
from aia_jax.weights.state_dict_files import ENDINGS, read_state_dict_file


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--torch", required=True, type=Path, metavar="FILE", help=f"a {ENDINGS} file"
    )
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder to write")
    parser.add_argument(
        "--state-dict",
        metavar="NAME",
        help="which one to take of a file that holds several; the command names them, and takes "
        "the moving average where there is one",
    )
    parser.add_argument(
        "--source",
        metavar="NAME",
        help="where the file comes from (default: what it says itself, or none): "
        f"{', '.join(CARDS)}",
    )


def main(argv: list[str] | None = None) -> None:
    options = configs.parse(argv, __doc__.splitlines()[0], add_flags, workdir=False)
    config, data = options.config, options.config.data

    # ---- Read the file, and say what it is -------------------------------------------------------

    file = read_state_dict_file(options.torch, options.state_dict)
    state_dict = file.arrays
    print(f"{options.torch}: {recognise(state_dict, file.about.config_text)}")
    for note in file.notes:
        print(f"note: {note}")

    # ---- What the file does not say: the card of its source --------------------------------------

    described = describe_file(options.torch)  # the file may be of a folder of weights
    source = options.source
    if source is None:
        source = (described.get("card") or {}).get("name")
    found = file_fields(file, described, options.torch)
    card, notes = choose_card(source, file, found, options.torch)
    recipe_model = config.model.to_dict()
    if card is not None:
        print(f"source: {card.name}, {card.publisher}")
        notes += apply_card(card, config)
    for note in notes:
        print(f"note: {note}")

    # ---- The variables of the config's network: only their shapes --------------------------------

    model = model_from_config(config)
    if is_own(state_dict):
        shown = shown_fields(options.torch.parent, described, model)
        undecided = ()
    else:
        names = network_of(model).torch_names
        shown = names.shown_fields(state_dict)
        shown |= configured_fields(names, state_dict, file.about.config_text)
        undecided = getattr(names, "undecided_fields", lambda keys: ())(state_dict)
    changed = {field: v for field, v in shown.items() if config.model[field] != v}
    if changed:  # no shape shows these fields: the file decides
        values = ", ".join(f"model.{field}={value}" for field, value in changed.items())
        print(f"note: the file shows {values}, unlike the config; the file is right")
        config.model.update(changed)
        model = model_from_config(config)
    if undecided:  # the folder keeps what the config decided, and a start from it is compared
        fields = ", ".join(f"model.{field}={config.model[field]}" for field in undecided)
        decides = "the config" if card is None else "the source"
        print(f"note: nothing in the file shows {fields}: {decides} decides, {model.describe()}")
        shown = {**shown, **{field: config.model[field] for field in undecided}}
    clips = jax.ShapeDtypeStruct((1, *clip_shape(model, data.crop)), jnp.float32)
    fresh = jax.eval_shape(model.init, jax.random.key(0), clips)

    # ---- Load what fits --------------------------------------------------------------------------

    if is_own(state_dict):
        variables, report = weights.load_own(nest(options.torch, state_dict), fresh, model)
    else:
        other = other_network(state_dict, model, file.about.config_text)
        try:
            variables, report = weights.load_matching(
                state_dict, fresh, model, consume=True, keep_half=True
            )
        except WeightsError as error:
            if other is None:
                raise
            raise UserError(f"{options.torch}: {other}") from error
    del state_dict  # writing needs as much memory again

    # ---- Write what was loaded; the rest starts fresh in training --------------------------------

    leaves = flatten_dict(variables, sep="/")
    loaded = {entry.variable: leaves[entry.variable] for entry in report.loaded}
    class_names = file.about.class_names or described.get("class_names")
    head = loaded.get("params/head/kernel")
    if class_names and head is not None and head.shape[-1] != len(class_names):
        print(
            f"note: the file names {len(class_names)} classes, and its head has {head.shape[-1]}: "
            "the names are left"
        )
        class_names = None
    description = {
        "source": {"file": str(options.torch), "sha256": digest(options.torch)},
        "config": options.config_name,
        "model": {**config.model.to_dict(), "num_classes": model.num_classes},
        "shown": shown,
        "data": {
            **{field: data[field] for field in GEOMETRY},
            "label_kind": data.label_kind or "single",
        },
        "class_names": class_names,
        "card": None if card is None else card.as_json(),
        "report": report.as_json(),
    }
    save_folder(options.out, unflatten_dict(loaded, sep="/"), description)

    print(f"-> {options.out}\n{report}")
    classes = found.get("num_classes")
    if classes and classes != data.num_classes and "params/head/kernel" in report.fresh:
        print(
            f"note: the head starts fresh, as data.num_classes is {data.num_classes} and the "
            f"file's head has {classes} classes; --config.data.num_classes={classes} keeps it"
        )
    decided = {**(card.model if card else {}), **shown}
    flags = [
        f"--config.model.{field}={config.model[field]}"
        for field in decided
        if config.model[field] != recipe_model[field]
    ]
    start = " ".join([f"--config.init_from={options.out}", *flags])
    print(f"To train from these weights, add {start} to the command of train.py")


if __name__ == "__main__":
    sys.exit(exit_status(main))
