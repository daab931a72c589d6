"""Chooses the card of a file's source, and gives its config what the file does not say."""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from aia_jax.config_fields import SIMILAR, set_field
from aia_jax.errors import UserError, describe
from aia_jax.models.fields import value_text
from aia_jax.weights.about import StateDictFile
from aia_jax.weights.files import description_file, read_description
from aia_jax.weights.source_cards import CARDS, SourceCard, guess_card, recognise_card


def choose_card(
    name: str | None, file: StateDictFile, path: Path
) -> tuple[SourceCard | None, list[str]]:
    """The card of a file's source: the one of the command line, or what the file itself says.

    Args:
        name: on the command line; None where it names no source.
        file: its content.
        path: of the file. A name proves nothing, so it is only offered as `name`.

    Returns:
        The card, or None; and notes for the user.

    Raises:
        UserError: there is no source of this name, or the file has no head of its classes.
    """
    if name is not None:
        card = find_card(name)
        if not _has_head(file.arrays, card.num_classes):
            raise UserError(
                f"--source {name} is a network of {card.num_classes} classes, and {path} has no "
                "head of as many; leave --source out, or name another one"
            )
        return card, []
    found, guess = recognise_card(file.about.config_text), guess_card(path)
    if found is not None and _has_head(file.arrays, found.num_classes):
        return found, [
            f"the config in the file is that of the source {found.name} ({found.publisher})"
        ]
    if guess is not None and _has_head(file.arrays, guess.num_classes):
        return None, [
            f"the file is called as {guess.publisher} call that of {guess.name}; if it is, "
            f"--source {guess.name} adds how clips are made and tested"
        ]
    return None, []


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


def check_shown(card: SourceCard, shown: Mapping[str, Any], path: Path) -> None:
    """Compares a card with the fields of the network that the keys of a file show.

    Raises:
        UserError: they are of different networks.
    """
    for field, value in shown.items():
        if field in card.model and card.model[field] != value:
            raise UserError(
                f"{path}: by its keys model.{field} is {_text(value)}, and of the source "
                f"{card.name} it is {_text(card.model[field])}; name another --source"
            )


def card_of_folder(folder: Path) -> SourceCard | None:
    """The card of a folder of weights, where convert_torch_weights.py knew it.

    Raises:
        UserError: it is no folder of weights, or this version has no such card.
    """
    stored = read_description(folder).get("card")
    if stored is None:
        return None
    name = stored.get("name") if isinstance(stored, Mapping) else None
    if not isinstance(name, str) or name not in CARDS:
        raise UserError(
            f"{description_file(folder)}: card is {describe(name)}, and this version has no source "
            "of that name; convert the weights again, with --source NAME"
        )
    return CARDS[name]


def _get(config: ConfigDict, key: str) -> Any:
    section, _, field = key.partition(".")
    return config[section][field]


def _has_head(arrays: Mapping[str, np.ndarray], num_classes: int) -> bool:
    """Whether a state dict has an array as the bias of a head of so many classes."""
    return any(np.shape(array) == (num_classes,) for array in arrays.values())


def _text(value: Any) -> str:
    return value if isinstance(value, str) else value_text(value)
