"""The fields of a config: their keys, their types, and the section `model` of each network."""

import ast
import contextlib
import difflib
import re
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from aia_jax.errors import UserError, describe
from aia_jax.frame_geometry import short_side
from aia_jax.models import NETWORKS, model_fields, owners

SIMILAR = 0.6  # difflib's ratio from which a key or a file is offered as the one that was meant
_LARGEST_FLOAT = 3.4e38
# A zero byte, which no path may hold, and half characters (lone surrogates). Those that stand for a
# byte of a file name that is no text are usable.
_UNUSABLE = re.compile("[\0\ud800-\udc7f\udd00-\udfff]")
_ALSO_SIMILAR = 0.1  # others this close to the best are offered too
# The β of "effective0.999" is below 1.
_WEIGHTING = re.compile(r"none|inverse|effective0\.\d{1,9}")
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


def leaves(config: ConfigDict, prefix: str = "") -> dict[str, Any]:
    """Every field of a config by its dotted key, such as "train.epochs"."""
    found = {}
    for key, value in config.items():
        if isinstance(value, ConfigDict):
            found |= leaves(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value
    return found


def no_such_key(key: str, config: ConfigDict) -> str:
    """One line on a key that `config` lacks: whose field it is, or which keys may have been meant.

    Args:
        key: dotted, or its last part alone where nothing else is known.
        config: what the key was looked up in.
    """
    section, _, field = key.rpartition(".")
    if section in ("", "model") and field not in config.model:
        others = owners(field)
        if others:
            return (
                f"config key model.{field} is a field of the network {' and '.join(others)}, this "
                f"recipe's is {config.model.name}"
            )
    keys = list(leaves(config))
    sections = {known.rpartition(".")[0] for known in keys} - {""}

    def similarity(candidate: str) -> float:
        whole = difflib.SequenceMatcher(None, key, candidate).ratio()
        last = difflib.SequenceMatcher(None, field, candidate.rpartition(".")[2]).ratio()
        # The last part counts most, because the section may be missing or wrong.
        return max(whole, 0.9 * last + 0.1 * whole)

    known = sorted(keys if section else [*keys, *sections], key=similarity, reverse=True)
    best = similarity(known[0])
    if best >= SIMILAR:
        near = [other for other in known[:3] if similarity(other) > best - _ALSO_SIMILAR]
        return f"no config key {key!r}; did you mean {' or '.join(near)}?"
    if section in sections:
        return f"no config key {key!r}; {section} has {', '.join(config[section])}"
    return f"no config key {key!r}; configs/base.py has them all"


def is_weighting(value: Any) -> bool:
    """Whether a value of `train.class_weights` names a rule instead of giving numbers."""
    return isinstance(value, str) and _WEIGHTING.fullmatch(value) is not None


# Fields whose value need not show their type, since it may be empty or a text, and one that does.
_EXAMPLES = {
    "data.resize": (240, 320),
    "data.resized_crop": (0.08, 1.0),
    "optim.betas": (0.9, 0.999),
    "optim.groups": ((".*", {"lr": 1.0, "decay": 1.0}),),
    "train.class_weights": (0.5, 2.0),
}
# Those of them that may be a text: whether it is one, and the texts in words.
_TEXTS = {
    "data.resize": (short_side, "a text such as short256"),
    "train.class_weights": (is_weighting, "none, inverse, or effectiveN such as effective0.999"),
}


def use_network(config: ConfigDict, name: str, **fields: Any) -> None:
    """Replaces the section `model` by another network's.

    A recipe for a deeper ResNet calls `use_network(config, "resnet", depth=101)`.

    Args:
        config: from `configs.base.get_config`.
        name: a row of `aia_jax.models.NETWORKS`.
        fields: those that differ from the network's defaults.

    Raises:
        UserError: for a network or a field that does not exist, and for a value of another type.
    """
    check_network(name)
    section = ConfigDict({"name": name, **model_fields(name)})
    with config.unlocked():
        config.model = section
    for field, value in fields.items():
        if field not in section:
            raise UserError(no_such_key(f"model.{field}", config))
        section[field] = as_type(value, section[field], f"model.{field}")
    section.lock()


def check_network(name: Any) -> None:
    """Checks `model.name`.

    Raises:
        UserError: for a network that does not exist; names those that do.
    """
    if name not in NETWORKS:
        raise UserError(
            f"config key model.name: found {describe(name)}, expected {' or '.join(NETWORKS)}"
        )


def switch_network(config: ConfigDict, name: str) -> None:
    """Changes the network of a recipe, and keeps the fields that the recipe has chosen.

    They are the fields whose values are not the old network's defaults.

    Raises:
        UserError: for a network that does not exist, or if the new network lacks such a field.
    """
    old = config.model.to_dict()
    defaults = {"name": old["name"], **model_fields(old["name"])}
    chosen = {field: value for field, value in old.items() if value != defaults[field]}
    use_network(config, name)
    for field, value in chosen.items():
        key = f"model.{field}"
        if field not in config.model:
            raise UserError(
                f"config key {key} is a field of the network {old['name']} and the recipe sets it "
                f"to {value!r}; the network {name} has no such field"
            )
        config.model[field] = as_type(value, config.model[field], key)


def fit(config: ConfigDict, base: ConfigDict, path: str) -> ConfigDict:
    """Returns a recipe's config with exactly the base's fields and types, locked.

    A recipe may have unlocked its config or built its own. One that lacks fields is an error: a
    recipe that starts from `configs.base.get_config()` has all of them, also those that are added
    after it was written.

    Raises:
        UserError: for a missing or unknown field, and for a value of another type.
    """
    found = leaves(config)
    name = found.get("model.name", base.model.name)
    if name != base.model.name:
        use_network(base, name)
    expected = leaves(base)
    for key in found:
        if key not in expected:
            raise UserError(f"config file {path}: {no_such_key(key, base)}")
    missing = [key for key in expected if key not in found]
    if missing:
        raise UserError(
            f"config file {path} lacks {', '.join(missing)}; start from configs.base.get_config()"
        )
    values = {
        key: as_type(value, expected[key], f"{key} in {path}") for key, value in found.items()
    }
    set_fields(base, values)
    return base


def add_missing(config: ConfigDict, defaults: ConfigDict) -> None:
    """Adds every field of `defaults` that `config`, which is not locked, lacks."""
    for key, value in defaults.items():
        if key not in config:
            config[key] = value
        elif isinstance(value, ConfigDict) and isinstance(config[key], ConfigDict):
            add_missing(config[key], value)


def assign(config: ConfigDict, key: str, text: str) -> None:
    """Sets one field from the command line's text.

    Raises:
        UserError: for a key that does not exist, or a text that is no value of the field's type.
    """
    found = leaves(config)
    if key not in found:
        if any(leaf.startswith(f"{key}.") for leaf in found):
            raise UserError(
                f"config key {key} is a section; set one of its keys: {', '.join(config[key])}"
            )
        raise UserError(no_such_key(key, config))
    like = _EXAMPLES.get(key, found[key])
    set_field(config, key, as_type(_parse(text, like), like, key))


def set_field(config: ConfigDict, key: str, value: Any) -> None:
    """Sets one field by its dotted key to a value that `as_type` has returned."""
    set_fields(config, {key: value})


def set_fields(config: ConfigDict, values: Mapping[str, Any]) -> None:
    """Sets fields by their dotted keys to values that `as_type` has returned."""
    with config.ignore_type():  # a field may hold numbers or a text
        config.update_from_flattened_dict(values)


def tuples(value: Any) -> Any:
    """Turns every list into a tuple, at any depth of lists, tuples and dicts."""
    if isinstance(value, (list, tuple)):
        return tuple(map(tuples, value))
    return {key: tuples(item) for key, item in value.items()} if isinstance(value, dict) else value


def as_type(value: Any, like: Any, key: str) -> Any:
    """Returns `value` as the type of `like`, where nothing is lost by it; lists become tuples.

    A tuple of whole numbers takes whole numbers only, and so does an empty one; a tuple with
    fractions takes both. Some fields take a text too (`_TEXTS`).

    Args:
        value: to be used.
        like: a value of the field.
        key: of the field; more words may follow it.

    Raises:
        UserError: for a value of another type; names `key`.
    """
    field = key.partition(" ")[0]
    like = _EXAMPLES.get(field, like)
    if field not in _TEXTS:
        return _as_type(value, like, key)
    is_text, texts = _TEXTS[field]
    return value if is_text(value) else _as_type(value, like, key, f", or {texts}")


def _as_type(value: Any, like: Any, key: str, more: str = "") -> Any:
    if isinstance(like, tuple) and isinstance(value, (tuple, list)):
        if all(isinstance(item, (int, float)) for item in like):
            item = next((item for item in like if isinstance(item, float)), 0)
            with contextlib.suppress(UserError):
                return tuple(_as_type(number, item, key) for number in value)
        else:
            return tuples(value)
    elif type(value) is type(like) and _is_usable(value):
        return value
    elif isinstance(like, float) and type(value) is int and _is_usable(value):
        return float(value)
    raise UserError(f"config key {key}: found {describe(value)}, expected {_type_name(like)}{more}")


def _is_usable(value: Any) -> bool:
    """Whether a value of the right type is one that files, NumPy and XLA can take."""
    if isinstance(value, str):
        return _UNUSABLE.search(value) is None
    # NumPy's whole numbers have 64 bits, XLA's fractions 32.
    if isinstance(value, float):
        return abs(value) <= _LARGEST_FLOAT
    return -(2**63) <= value < 2**63


def _parse(text: str, like: Any) -> Any:
    """Reads a text as a value of the type of `like`.

    Returns the text itself if it is no such value; `as_type` then refuses it.
    """
    if isinstance(like, str):
        return text
    if isinstance(like, bool):
        return _BOOLEANS.get(text.lower(), text)
    with contextlib.suppress(ValueError, SyntaxError):
        if isinstance(like, int):
            return int(text)
        if isinstance(like, float):
            return float(text)
        value = ast.literal_eval(f"({text.strip()})") if text.strip() else ()
        return value if isinstance(value, (tuple, list)) else (value,)
    return text


def _type_name(like: Any) -> str:
    if isinstance(like, tuple):
        if not all(isinstance(item, (int, float)) for item in like):
            return f"a tuple such as {like!r}"
        kind = "numbers" if any(isinstance(item, float) for item in like) else "whole numbers"
        return f"{kind} with commas between them, such as {','.join(map(str, like)) or '1,2'}"
    return {
        bool: "true or false",
        int: "a whole number of at most 64 bits",
        float: "a number of at most 3.4e38",
        str: "a text without zero bytes and half characters",
    }[type(like)]
