"""Opens a file of weights as it was downloaded: the network follows from what the file says."""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from aia_jax.checkpoints.trained_run import TrainedRun
from aia_jax.errors import UserError, describe, shorten
from aia_jax.models import clip_shape, model_fields, model_from_config, network_of
from aia_jax.models.torch_keys import Choice
from aia_jax.weights.about import About
from aia_jax.weights.convert import load_matching
from aia_jax.weights.open import DATA_FIELDS, GEOMETRY, make_config, make_run
from aia_jax.weights.recognise import is_own
from aia_jax.weights.source_cards import SourceCard
from aia_jax.weights.source_choice import choose_card, file_fields
from aia_jax.weights.state_dict_files import read_state_dict_file

_AIA_FRAMES = (240, 320)  # height and width of the AIA authors' frames, pixels


def open_file(
    path: Path,
    given: Mapping[str, Any] | None = None,
    *,
    source: str | None = None,
    state_dict: str | None = None,
) -> TrainedRun:
    """Opens a checkpoint of PyTorch or Google as if a run had trained it.

    The network is that of the file's keys and shapes. What they do not show, and how clips are
    made, comes from `given`, else from the card of the file's source if that is known. A network
    that nothing decides is an error; clips that nothing says are made in the usual way, and a note
    says so.

    Args:
        path: a file that `read_state_dict_file` takes.
        given: fields of the network as `config.model` has them, and fields of `DATA_FIELDS`.
        source: name of a card in `source_cards.CARDS`; None: the one that the file's own config
            shows, if any.
        state_dict: which of several in the file, as `read_state_dict_file` names them.

    Returns:
        As `open_weights`; `workdir` is the file.

    Raises:
        UserError: the file cannot be read, its network is not known or not decided (names the
            fields), it has no head, or its arrays are not all of the network.
    """
    given = dict(given or {})
    file = read_state_dict_file(path, state_dict)
    if is_own(file.arrays):
        raise UserError(
            f"{path} holds variables of this project without the weights.json that says whose they "
            "are; give the folder that convert_torch_weights.py wrote"
        )
    proposed = file_fields(file, {}, path)
    count = proposed.get("num_classes")
    if count is None:
        raise UserError(
            f"{path} holds a backbone without a head, which knows no classes: convert it "
            "(convert_torch_weights.py) and train from it"
        )
    _check_names(proposed["name"], given)
    card, card_notes = choose_card(source, file, proposed, path, "source={!r}")
    if card is not None and source is not None:
        card_notes = [f"source: {card.name}, of {card.publisher}"]
    del proposed["num_classes"]

    fields, data, assumed = _decide(path, proposed, card, given)
    config, _ = make_config(path, {"model": fields, "data": data, "shown": {}}, count)
    model = model_from_config(config)
    clips = jax.ShapeDtypeStruct((1, *clip_shape(model, config.data.crop)), jnp.float32)
    expected = jax.eval_shape(model.init, jax.random.key(0), clips)
    try:
        variables, report = load_matching(file.arrays, expected, model, consume=True)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    if report.fresh:
        raise UserError(
            f"{path} lacks {len(report.fresh)} variables of {model.describe()}, such as "
            f"{next(iter(report.fresh))}; leave the fields out that it does not have"
        )
    dropped = [entry.key for entry in report.dropped]
    _check_dropped(path, dropped, model)
    left = f"not used: {shorten(', '.join(dropped))}" if dropped else ""
    names, names_note = _class_names(path, file.about, count)
    notes = (*file.notes, *report.notes, left, *card_notes, names_note, assumed)
    return make_run(
        path,
        config,
        variables,
        names,
        recipe={"config": "", "overrides": []},
        notes=tuple(filter(None, notes)),
    )


def _check_names(network: str, given: Mapping[str, Any]) -> None:
    """Refuses fields that neither the network nor its clips have."""
    known = [*DATA_FIELDS, *model_fields(network)]
    for field in given:
        if field not in known:
            near = difflib.get_close_matches(field, known, n=2)
            hint = f"did you mean {' or '.join(near)}?" if near else f"it has {', '.join(known)}"
            raise UserError(f"the file's network, {network}, has no field {field!r}; {hint}")


def _decide(
    path: Path, proposed: Mapping[str, Any], card: SourceCard | None, given: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any], str]:
    """The fields of the network, those of its clips, and a note on what nothing has decided."""
    clips = {field: value for field, value in given.items() if field in DATA_FIELDS}
    chosen = {field: value for field, value in given.items() if field not in DATA_FIELDS}
    fields = {**proposed, **(card.model if card else {}), **chosen}
    if "crop" in clips and "image_size" in fields and "image_size" not in chosen:
        fields["image_size"] = (clips["crop"], clips["crop"])
    _check_decided(path, fields)

    size = fields.get("image_size", 224)
    crop = clips.get("crop", size[0] if isinstance(size, (tuple, list)) else size)
    if type(crop) is not int or crop < 1:
        raise UserError(f"crop={crop!r}: expected a side in pixels, a whole number from 1")
    if card is None:
        data = {"num_frames": 8, "crop": crop, "resize": f"short{max(256, crop)}"}
        data["sampling"] = "reference"
        if "image_size" in fields:
            data["resize"] = f"short{crop}"
        elif fields.get("attention", "none") != "none":
            data["resize"] = _AIA_FRAMES
    else:
        data = {field: getattr(card, field) for field in GEOMETRY}
    assumed = {} if card else {f: value for f, value in data.items() if f not in clips}
    note = ""
    if assumed:
        values = ", ".join(f"{field}={value!r}" for field, value in assumed.items())
        note = (
            f"nothing says how clips are made for this network; taken: {values}; keywords of these "
            "names set them, and source=NAME those of a published checkpoint"
        )
    return fields, {**data, **clips}, note


def _check_decided(path: Path, fields: Mapping[str, Any]) -> None:
    """Refuses a network with a field that neither file, source nor user has decided."""
    undecided = {f: value.values for f, value in fields.items() if isinstance(value, Choice)}
    if not undecided:
        return
    questions = [
        f"{field} ({' or '.join(map(str, values))})" if values else field
        for field, values in undecided.items()
    ]
    example = ", ".join(
        f"{field}={describe(values[-1] if values else '…')}" for field, values in undecided.items()
    )
    raise UserError(
        f"{path} is of the network {fields['name']}, and its arrays do not show "
        f"{', '.join(questions)}; say it, as load(…, {example}), or with source=NAME if it is a "
        "published checkpoint"
    )


def _check_dropped(path: Path, keys: list[str], model: nn.Module) -> None:
    """Refuses a file with modules that the network does not have: it would be another network."""
    names = network_of(model).torch_names
    modules = [key for key in keys if names.optional_module(key)]
    if modules:
        raise UserError(
            f"{path} holds {len(modules)} arrays of modules that {model.describe()} does not have, "
            f"such as {modules[0]}; give the fields of its network"
        )


def _class_names(path: Path, about: About, count: int) -> tuple[tuple[str, ...] | None, str]:
    """The names in the file, and a note where they are not those of its head."""
    names = about.class_names
    if names is None or len(names) == count:
        return names, ""
    return None, f"{path} names {len(names)} classes and its head has {count}: names are left out"
