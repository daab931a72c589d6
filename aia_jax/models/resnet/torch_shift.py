"""What the keys of a state dict say about the temporal shift, which no shape shows.

TSM's released code wraps what it shifts in a module that has the rest as `net`: the key
`layer1.0.conv1.net.weight` says that the input of that convolution is shifted. The AIA authors'
keys and those of plain ResNets say nothing, whatever the network was.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import flax.linen as nn

from aia_jax.errors import UserError
from aia_jax.models.resnet.placement import SHIFT_RULES, has_shift, same_shift
from aia_jax.models.resnet.torch_sources import (
    MMACTION,
    find_source,
    shows_every_shift,
    tsm_key,
)

# Fields that change what a network computes and not the shape of any variable.
_SHAPELESS_FIELDS = ("temporal", "shift_blocks", "fold_div")

# Patterns of TSM's keys that show what no network here has, and what that is.
_OTHER_NETWORKS = (
    (r"layer\d+\.\d+\.net\.", "shifts the input of whole blocks (shift_place=block of TSM's code)"),
    (r"layer\d+\.net\.", "pools over time before a stage (temporal_pool of TSM's code)"),
    # In front of the stem the shift moves none of the three channels: its `.net` says nothing.
    (
        r"layer\d+\.\d+\.(?!(?:block\.)?conv1\.net\.weight$).*\.net\.",
        "shifts somewhere else in its blocks",
    ),
)


def shown_fields(keys: Iterable[str]) -> dict[str, Any]:
    """Fields of the network that the keys show: {"temporal": "tsm"}, and perhaps `shift_blocks`.

    Args:
        keys: of a state dict, canonical or not.

    Returns:
        {} where no key says anything. Without "shift_blocks" where all rules shift the same blocks.
        {"temporal": "tsn"} where the source's keys would show a shift, and these do not.

    Raises:
        UserError: no network here shifts these blocks; names them or a key.
    """
    keys = list(keys)
    names = {tsm_key(key): key for key in keys}
    for pattern, description in _OTHER_NETWORKS:
        if name := next((name for name in names if re.match(pattern, name)), None):
            raise UserError(
                f"the file's network {description}: {names[name]}; only a shift of the first "
                "convolution's input in a block loads (shift_place=blockres)"
            )
    shifted = {  # (stage, block), from 0 → whether its first convolution is wrapped
        (int(match[1]) - 1, int(match[2])): bool(match[3])
        for name in names
        if (match := re.match(r"layer(\d+)\.(\d+)\.(?:block\.)?conv1\.(net\.)?weight$", name))
    }
    if not any(shifted.values()):
        return {"temporal": "tsn"} if shows_every_shift(keys) else {}
    stages = [
        1 + max((block for other, block in shifted if other == stage), default=0)
        for stage in range(1 + max(stage for stage, _ in shifted))
    ]
    rules = [
        rule
        for rule in SHIFT_RULES
        if all(has_shift(stages, *place, rule) == wrapped for place, wrapped in shifted.items())
    ]
    if not rules:
        places = _places_text(place for place, wrapped in shifted.items() if wrapped)
        raise UserError(
            f"no network here shifts the blocks that the file's does by its keys: {places} "
            f"({_sign(keys)}); model.shift_blocks knows {' and '.join(SHIFT_RULES)}"
        )
    if len(rules) == len(SHIFT_RULES):
        return {"temporal": "tsm"}
    return {"temporal": "tsm", "shift_blocks": rules[0]}


def show_shift(key: str, model: nn.Module) -> str:
    """A canonical key with `.net` where `model` shifts, as TSM's released code writes it."""
    match = re.fullmatch(r"layer(\d+)\.(\d+)\.conv1\.weight", key)
    place = (int(match[1]) - 1, int(match[2])) if match else None
    if model.temporal == "tsm" and place and has_shift(model.stages, *place, model.shift_blocks):
        return key.replace("conv1.", "conv1.net.")
    return key


def configured_fields(keys: Iterable[str], config_text: str | None) -> dict[str, Any]:
    """How many channels mmaction2's TSM shifts by its config: {"fold_div": 8}; {} if nobody says.

    Args:
        keys: of a state dict.
        config_text: the config of the program that trained it.
    """
    keys = list(keys)
    division = re.search(r"\bshift_div['\"]?\s*[=:]\s*(\d+)", config_text or "")
    if division is None or find_source(keys) is not MMACTION or ".net." not in "".join(keys):
        return {}
    return {"fold_div": int(division[1])}


def contradiction(keys: Iterable[str], model: nn.Module) -> str | None:
    """A line that says which blocks the file's network shifts and which `model` does.

    Args:
        keys: of a state dict.
        model: the network that the weights are meant for.

    Returns:
        None where the keys say nothing, or the same as `model`.
    """
    keys = list(keys)
    try:
        shown = shown_fields(keys)
    except UserError as error:
        return str(error)
    if all(getattr(model, field) == value for field, value in shown.items()):
        return None
    theirs = {**{field: getattr(model, field) for field in _SHAPELESS_FIELDS[:2]}, **shown}
    return (
        f"shift: by its keys ({_sign(keys)}) the file's network shifts the blocks "
        f"{_shifted_text(model.stages, **theirs)}; this net shifts "
        f"{_shifted_text(model.stages, model.temporal, model.shift_blocks)}. The file's is "
        f"{_fields_text(shown)}"
    )


def compare_start(fields: Mapping[str, Any], model: nn.Module) -> list[str]:
    """Compares the network that weights were trained in with the one that starts from them.

    Args:
        fields: of the source's network, as far as they are known.
        model: starts from the weights.

    Returns:
        Notes on differences that a user may mean, such as a start of a TSM from a TSN.

    Raises:
        UserError: both networks are TSMs and shift in other ways.
    """
    temporal = fields.get("temporal", model.temporal)
    if temporal != model.temporal:
        return [
            f"the weights were trained with model.temporal={temporal}; this run's is "
            f"{model.temporal}"
        ]
    theirs = {field: fields.get(field, getattr(model, field)) for field in _SHAPELESS_FIELDS}
    if model.temporal == "tsm" and same_shift(
        model.stages, theirs["shift_blocks"], model.shift_blocks
    ):
        theirs["shift_blocks"] = model.shift_blocks
    different = {f: value for f, value in theirs.items() if value != getattr(model, f)}
    if model.temporal == "tsm" and different:
        ours = {field: getattr(model, field) for field in different}
        raise UserError(
            f"the weights were trained with {_fields_text(different)}, this run has "
            f"{_fields_text(ours)}: the temporal shift would be another one; add "
            + " ".join(f"--config.model.{field}={value}" for field, value in different.items())
        )
    return []


def _sign(keys: Iterable[str]) -> str:
    """What in the keys says which blocks are shifted."""
    wrapped = (key for key in keys if ".conv1.net." in tsm_key(key))
    return next(wrapped, "mmaction2's, without .net")


def _shifted_text(stages: Iterable[int], temporal: str, shift_blocks: str) -> str:
    """The blocks that a network of these fields shifts."""
    if temporal == "tsn":
        return "none"
    stages = list(stages)
    return _places_text(
        (stage, block)
        for stage, blocks in enumerate(stages)
        for block in range(blocks)
        if has_shift(stages, stage, block, shift_blocks)
    )


def _places_text(places: Iterable[tuple[int, int]]) -> str:
    """Blocks by stage, "layer1.0,1,2 layer2.0,2", of pairs (stage, block) that count from 0."""
    blocks: dict[int, list[int]] = {}
    for stage, block in sorted(places):
        blocks.setdefault(stage, []).append(block)
    return " ".join(
        f"layer{stage + 1}.{','.join(map(str, numbers))}" for stage, numbers in blocks.items()
    )


def _fields_text(fields: Mapping[str, Any]) -> str:
    return ", ".join(f"model.{field}={value}" for field, value in fields.items())
