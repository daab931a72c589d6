"""Chooses the card of a file's source, and gives its config what the file does not say."""

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from aia_jax.config_fields import SIMILAR, set_field
from aia_jax.errors import UserError, describe
from aia_jax.models import model_fields
from aia_jax.models.fields import value_text
from aia_jax.models.torch_keys import Choice
from aia_jax.weights.about import StateDictFile
from aia_jax.weights.files import description_file, read_description
from aia_jax.weights.names import WeightsError
from aia_jax.weights.recognise import UNKNOWN, can_propose, is_own, propose_fields, recognise
from aia_jax.weights.source_cards import CARDS, SourceCard

# Fields of a network that are its size; a card that does not name one means the usual one.
_SIZE = ("depth", "width", "stem", "stage_sizes", "size", "patch")
_WORK_DIR = re.compile(r"^\s*work_dir\s*=\s*(['\"])(?P<path>[^'\"\n]+)\1", re.MULTILINE)


def choose_card(
    name: str | None,
    file: StateDictFile,
    fields: Mapping[str, Any],
    path: Path,
    option: str = "--source {}",
) -> tuple[SourceCard | None, list[str]]:
    """The card of a file's source: the one that the user names, or what the file itself says.

    Args:
        name: from the user; None where they name no source.
        file: its content.
        fields: of `file_fields`.
        path: of the file. A name proves nothing, so it is only offered as `name`.
        option: how the user names a source, for messages; `{}` is the name.

    Returns:
        The card, or None; and notes for the user.

    Raises:
        UserError: there is no source of this name, or the file says another one (`check_card`).
    """
    if name is not None:
        card = find_card(name)
        check_card(card, file, fields, path, option)
        return card, []
    found, guess = recognise_card(file.about.config_text), guess_card(path)
    if found is not None and not _differences(found, fields):
        return found, [
            f"the config in the file is that of the source {found.name} ({found.publisher})"
        ]
    # A config of that name with another network is somebody else's training.
    if guess is not None and not _differences(guess, fields):
        return None, [
            f"the file is called as {guess.publisher} call that of {guess.name}; if it is, "
            f"{option.format(guess.name)} says how clips are made and tested"
        ]
    return None, []


def file_fields(file: StateDictFile, description: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Fields of the network that a file shows, with `num_classes` if it has a head.

    Args:
        file: its content.
        description: what the folder says of the file (`describe_file`); {} of any other file.
        path: of the file.

    Returns:
        As `propose_fields`; of variables of this project, what `description` says. {} where the
        file's network proposes none.

    Raises:
        UserError: the file is of no known network, or of a relative of one.
    """
    arrays, text = file.arrays, file.about.config_text
    if not is_own(arrays):
        try:
            if recognise(arrays, text) != UNKNOWN and not can_propose(arrays, text):
                return {}
            return propose_fields(arrays, text)
        except WeightsError as error:
            raise UserError(f"{path}: {error}") from error
    fields = _sizes(description)
    if isinstance(shown := description.get("shown"), Mapping):
        fields |= shown
    head = np.shape(arrays.get("params/head/kernel"))
    return fields | ({"num_classes": head[-1]} if head else {})


def check_card(
    card: SourceCard,
    file: StateDictFile,
    fields: Mapping[str, Any],
    path: Path,
    option: str = "--source {}",
) -> None:
    """Compares the card that the user names with what the file itself says.

    Args:
        card: of the user's source.
        file, fields, path, option: as in `choose_card`.

    Raises:
        UserError: another source, another program's names, or another network; one line.
    """
    found = recognise_card(file.about.config_text)
    said = recognise(file.arrays, file.about.config_text)
    others = {other.program for other in CARDS.values()} - {"", card.program}
    remedy = f"leave {option.format(card.name)} out, or name the source of the file"
    if different := _differences(card, fields):
        problem = f"the file shows {', '.join(different)}"
    elif found is not None and found != card and not _differences(found, fields):
        problem = f"the config in it is that of the source {found.name}"
        remedy = f"leave {option.format(card.name)} out, or give {option.format(found.name)}"
    elif program := next((name for name in others if f"{name}'s" in said), None):
        problem = f"its keys are {program}'s, and those of {card.publisher} have other names"
    else:
        return
    raise UserError(f"{path} is not of the source {card.name}: {problem}; {remedy}")


def recognise_card(config_text: str | None) -> SourceCard | None:
    """The card of the network that a file's own config trained; None where it does not say.

    mmaction2 trains into a folder of its config's name. Configs inherit from one another, and name
    the weights that they start from, so no other place of the text says which config it is.

    Args:
        config_text: `About.config_text` of the file.
    """
    found = _WORK_DIR.search(config_text or "")
    name = found["path"].rstrip("/").rpartition("/")[2] if found else ""
    return next((card for card in CARDS.values() if name and card.file == name), None)


def guess_card(path: Path) -> SourceCard | None:
    """The card of the published file of this name; files may be called anything."""
    stem = re.sub(r"_20\d{6}(-[0-9a-f]+)?$", "", path.stem)
    return next((card for card in CARDS.values() if card.file and card.file == stem), None)


def find_card(name: str) -> SourceCard:
    """The card of a name.

    Raises:
        UserError: there is none; offers the nearest.
    """
    if name not in CARDS:
        near = difflib.get_close_matches(name, CARDS, n=2, cutoff=SIMILAR)
        meant = f" (did you mean {' or '.join(near)}?)" if near else ""
        raise UserError(f"there is no source {name!r}{meant}; the sources are {', '.join(CARDS)}")
    return CARDS[name]


def apply_card(card: SourceCard, config: ConfigDict) -> list[str]:
    """Sets the fields of a config that a card knows: network, classes, and how clips are made.

    Args:
        card: of the source.
        config: of the recipe that the command line names; changed.

    Returns:
        A note on the fields that differed, or none.

    Raises:
        UserError: the recipe's network is another one.
    """
    if config.model.name != card.model["name"]:
        raise UserError(
            f"the source {card.name} is of the network {card.model['name']}, and this recipe's is "
            f"{config.model.name} (config key model.name); name a recipe of that network"
        )
    fields = {f"model.{field}": value for field, value in card.model.items()}
    fields |= {
        "data.num_classes": card.num_classes,
        "data.num_frames": card.num_frames,
        "data.crop": card.crop,
        "data.resize": card.resize,
        "data.sampling": card.sampling,
    }
    before = {key: _get(config, key) for key in fields}
    changed = {key: value for key, value in fields.items() if before[key] != value}
    for key, value in changed.items():
        set_field(config, key, value)
    if not changed:
        return []
    texts = (
        f"{key}={_text(value)} (recipe: {_text(before[key])})" for key, value in changed.items()
    )
    return [f"as the card of {card.name} says: {', '.join(texts)}"]


def card_of_folder(folder: Path) -> SourceCard | None:
    """The card of a folder of weights, where convert_torch_weights.py knew it.

    Raises:
        UserError: it is no folder of weights, or this version has no such card.
    """
    description = read_description(folder)
    stored = description.get("card")
    if stored is None:
        return None
    name = stored.get("name") if isinstance(stored, Mapping) else None
    if not isinstance(name, str) or name not in CARDS:
        raise UserError(
            f"{description_file(folder)}: card is {describe(name)}, and this version has no source "
            "of that name; convert the weights again, with --source NAME"
        )
    if different := _differences(CARDS[name], _sizes(description)):
        raise UserError(
            f"{description_file(folder)}: card is {name}, and model has {', '.join(different)}; "
            "convert the weights again, without --source or with the right one"
        )
    return CARDS[name]


def _get(config: ConfigDict, key: str) -> Any:
    section, _, field = key.partition(".")
    return config[section][field]


def _differences(card: SourceCard, fields: Mapping[str, Any]) -> list[str]:
    """What fields of a network, of `file_fields` or `_sizes`, have otherwise than a card."""
    if fields.get("name", card.model["name"]) != card.model["name"]:
        return [f"the network {fields['name']}, not {card.model['name']}"]
    expected = {**model_fields(card.model["name"]), **card.model, "num_classes": card.num_classes}
    compared = dict.fromkeys((*card.model, *_SIZE, "num_classes"))
    different = [
        f"{field} {_text(fields[field])}, not {_text(expected[field])}"
        for field in compared
        if field in fields and field in expected
        if not isinstance(fields[field], Choice) and fields[field] != expected[field]
    ]
    if card.shows_shift and isinstance(fields.get("temporal"), Choice):
        different.append("no shift in its keys, which those of that source do")
    return different


def _sizes(description: Mapping[str, Any]) -> dict[str, Any]:
    """The name and the sizes of the network that a `weights.json` describes."""
    model = description.get("model")
    if not isinstance(model, Mapping):
        return {}
    values = {field: model[field] for field in ("name", *_SIZE) if field in model}
    return {f: tuple(v) if isinstance(v, list) else v for f, v in values.items()}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else value_text(value)
