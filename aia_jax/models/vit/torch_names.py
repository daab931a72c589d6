"""How the ViT family's arrays are called in checkpoints, and how their axes lie there.

Known sources: Google's .npz files, the ViTs of torchvision, timm and Hugging Face, and the
networks of MSCA's authors, which this project calls the reference: ViT, TokShift and MSCA.
`torch_sources.py` has their keys. `aia_jax/weights/names.py` lists what a file like this one
offers.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import flax.linen as nn
import numpy as np

from aia_jax.errors import UserError
from aia_jax.models.torch_keys import CONV2D, DENSE, VECTOR, Choice, Row
from aia_jax.models.vit.positions import fit_positions, grid_to_resize
from aia_jax.models.vit.shift import SHIFTS
from aia_jax.models.vit.torch_formats import FORMATS, to_format
from aia_jax.models.vit.torch_relatives import find_relative
from aia_jax.models.vit.torch_shift import (
    SHAPELESS_FIELDS,
    compare_start,
    contradiction,
    shown_fields,
)
from aia_jax.models.vit.torch_sizes import (
    SIZE_FIELDS,
    check_sizes,
    describe_sizes,
    find_sizes,
    layer_count,
    propose_sizes,
)
from aia_jax.models.vit.torch_sources import (
    AUTHORS,
    CLASS_TOKEN,
    FC1,
    FC2,
    GOOGLE,
    HEAD,
    KEY,
    NORM,
    NORM1,
    NORM2,
    OUT,
    PATCHES,
    POSITIONS,
    PRE_LOGITS,
    QUERY,
    VALUE,
    canonical_key,
    find_pre_logits,
    find_source,
    is_unused,
)

__all__ = [
    "FORMATS",
    "SIZE_FIELDS",
    "compare_start",
    "contradiction",
    "describe_size",
    "entries",
    "fit_variables",
    "is_backbone",
    "notes",
    "optional_module",
    "pretrained_source",
    "propose_fields",
    "recognise",
    "reference_key",
    "shown_fields",
    "table",
    "to_format",
    "undecided_fields",
]

_OUR_POSITIONS = "params/position_embedding"
_WHOLE = (0, 1, 2)  # axes of an array of three that lies as here

_PROJECTION = (1, 0, 0)  # [heads·channels, in] → [in, heads, channels]
_PROJECTION_BIAS = (0, 0)  # [heads·channels] → [heads, channels]
_OUT = (1, 1, 0)  # [out, heads·channels] → [heads, channels, out]


def table(model: nn.Module) -> list[Row]:
    """(pattern of a variable's path, its canonical key, axes), for every variable of a network."""
    del model  # the same for all of the family
    rows = [
        ("params/class_token", CLASS_TOKEN, _WHOLE),
        (_OUR_POSITIONS, POSITIONS, _WHOLE),
        *_rows("patch_embedding", PATCHES, "kernel", CONV2D),
        *_rows("norm", NORM, "scale", VECTOR),
        *_rows("head", HEAD, "kernel", DENSE),
    ]
    for ours, theirs, leaf, axes, bias_axes in (
        ("norm1", NORM1, "scale", VECTOR, VECTOR),
        ("norm2", NORM2, "scale", VECTOR, VECTOR),
        ("attention/query", QUERY, "kernel", _PROJECTION, _PROJECTION_BIAS),
        ("attention/key", KEY, "kernel", _PROJECTION, _PROJECTION_BIAS),
        ("attention/value", VALUE, "kernel", _PROJECTION, _PROJECTION_BIAS),
        ("attention/out", OUT, "kernel", _OUT, VECTOR),
        ("mlp/fc1", FC1, "kernel", DENSE, VECTOR),
        ("mlp/fc2", FC2, "kernel", DENSE, VECTOR),
    ):
        rows += _rows(rf"layer(\d+)/{ours}", theirs.format(r"\1"), leaf, axes, bias_axes)
    return rows


def _rows(
    ours: str, theirs: str, leaf: str, axes: tuple[int, ...], bias_axes: tuple[int, ...] = VECTOR
) -> list[Row]:
    """Rows for a weight, which is called `leaf` here, and its bias."""
    return [
        (f"params/{ours}/{leaf}", f"{theirs}weight", axes),
        (f"params/{ours}/bias", f"{theirs}bias", bias_axes),
    ]


def entries(
    state_dict: Mapping[str, np.ndarray], model: nn.Module
) -> list[tuple[str, str, np.ndarray]]:
    """(canonical key, key, array) for every array of a state dict that a variable may come from.

    Queries, keys and values of one array become three. Google's arrays are laid out as torch's. The
    position embedding is resized to the network's grid of patches. A head that stands on another
    layer (pre_logits) keeps its own key, so that it does not load.

    Raises:
        UserError: the file's network is a relative of a ViT or has other sizes, one a line, or its
            position embedding cannot be resized.
    """
    _refuse_relatives(state_dict)
    keys, source = _canonical_keys(state_dict), find_source(state_dict)
    check_sizes(find_sizes(keys, state_dict, source is GOOGLE), model)
    has_pre_logits = find_pre_logits(state_dict) is not None
    rows = []
    for key, value in state_dict.items():
        canonical = canonical_key(key)
        if has_pre_logits and canonical.startswith(HEAD):
            canonical = f"{PRE_LOGITS}{canonical}"
        elif source is GOOGLE:
            value = _as_torch(canonical, value)
        if canonical == POSITIONS:
            value = fit_positions(value, model.grid, key, source is AUTHORS)
        rows += _split(canonical, key, value)
    return rows


def fit_variables(variables: Mapping[str, np.ndarray], model: nn.Module) -> dict[str, np.ndarray]:
    """Variables by their paths, with the position embedding resized to the network's patches.

    Raises:
        UserError: they are of another size, one a line, or their position embedding cannot be
            resized.
    """
    check_sizes(find_sizes({path: path for path in variables}, variables, True), model)
    fitting = dict(variables)
    if _OUR_POSITIONS in fitting:
        positions = fitting[_OUR_POSITIONS]
        fitting[_OUR_POSITIONS] = fit_positions(positions, model.grid, _OUR_POSITIONS)
    return fitting


def notes(arrays: Mapping[str, np.ndarray], model: nn.Module) -> list[str]:
    """Lines for people on what loading does to the arrays of a state dict, or to variables."""
    lines, source = [], find_source(arrays)
    key = _OUR_POSITIONS
    if source is not None:
        key = next((key for key in arrays if canonical_key(key) == POSITIONS), key)
    if key in arrays:
        same = source is None or source is AUTHORS
        if grid := grid_to_resize(arrays[key], model.grid, key, same):
            lines.append(
                f"{key} is resized from {grid[0]}x{grid[1]} patches to "
                f"{model.grid[0]}x{model.grid[1]}, linearly"
            )
    if key := find_pre_logits(arrays):
        lines.append(
            f"the file's head stands on a layer that no network here has ({key}): both stay behind"
        )
    if source is not None and source.pixels:
        lines.append(
            f"{source.name} takes pixels of {source.pixels}; the networks here take mean 0.5 and "
            "deviation 0.5: the weights are a start for training"
        )
    return lines


def _as_torch(canonical: str, value: np.ndarray) -> np.ndarray:
    """An array of Google's as a view whose axes lie as torch's."""
    if canonical.endswith("attn.out.weight") and value.ndim == 3:
        value = value.reshape(-1, value.shape[2])  # [heads·channels, out]
    elif re.search(r"attn\.(query|key|value)\.", canonical) and value.ndim > 1:
        value = value.reshape(*value.shape[:-2], -1)  # [in, heads·channels] or [heads·channels]
    if value.ndim == 4:
        return value.transpose(3, 2, 0, 1)
    return value.T if value.ndim == 2 else value


def _split(canonical: str, key: str, value: np.ndarray) -> list[tuple[str, str, np.ndarray]]:
    """A row of `entries`, or three for an array that holds queries, keys and values."""
    if ".attn.qkv." not in canonical:
        return [(canonical, key, value)]
    parts = ("query", "key", "value")
    names = [canonical.replace(".qkv.", f".{part}.") for part in parts]
    if np.ndim(value) == 0 or len(value) % 3:  # its shape becomes an error
        return [(names[0], key, value)]
    thirds = np.split(np.asarray(value), 3)
    return [
        (name, f"{key} ({part})", third)
        for name, part, third in zip(names, parts, thirds, strict=True)
    ]


def _canonical_keys(state_dict: Iterable[str]) -> dict[str, str]:
    """Canonical key → key."""
    return {canonical_key(key): key for key in state_dict}


def reference_key(key: str, model: nn.Module) -> str:
    """The reference's name of a canonical key: that key itself."""
    del model
    return key


def is_backbone(name: str) -> bool:
    """Whether a variable or a canonical key belongs to the network without its head.

    Every key does that is of no head, even one that no variable here has, but those of arrays that
    nothing needs.
    """
    return not (re.match(r"(params/)?head[./]", name) or is_unused(name))


def optional_module(name: str) -> str | None:
    """None: there is no part that may be left out."""
    del name
    return None


def describe_size(names: Iterable[str]) -> str | None:
    """A text such as "ViT of 12 layers"; None if no canonical key or path is of a layer."""
    layers = layer_count(names)
    return f"ViT of {layers} layers" if layers else None


def pretrained_source(model: nn.Module) -> str:
    """The public network whose weights a recipe starts from."""
    file = f"ViT-{model.size}_{model.patch}.npz"
    return f"Google's {file} (ImageNet-21k)" if model.size else "Google's .npz of such a ViT"


def recognise(state_dict: Mapping[str, np.ndarray]) -> str | None:
    """Says in a line which source and size of ViT a state dict is of; None if it is of none.

    Raises:
        UserError: the network is a relative of a ViT that does not load; says what is different and
            names a key that shows it.
    """
    _refuse_relatives(state_dict)
    source = find_source(state_dict)
    if source is None:
        return None
    keys = _canonical_keys(state_dict)
    size = describe_sizes(
        find_sizes(keys, state_dict, source is GOOGLE), state_dict.get(keys.get(POSITIONS, ""))
    )
    head = "no head"
    if classes := _count_classes(state_dict, keys):
        head = f"{classes} classes in {re.split('[./][^./]*$', keys[f'{HEAD}weight'])[0]}"
    decided = "; its keys do not say which: model.shift decides" if source.is_video else ""
    return f"{source.name}: {size}, {head}{decided}"


def propose_fields(state_dict: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Fields of the network that a state dict is of, with `Choice` where no array shows one.

    ViT, TokShift and MSCA have the same arrays; where the keys are those of MSCA's authors it may
    be any of them. A head that stands on another layer does not count: it does not load.
    """
    keys, fields = _canonical_keys(state_dict), _propose_sizes(state_dict)
    classes = _count_classes(state_dict, keys)
    if classes and find_pre_logits(state_dict) is None:
        fields["num_classes"] = classes
    if find_source(state_dict) is AUTHORS:
        fields["shift"] = Choice(tuple(SHIFTS))
    return fields


def undecided_fields(state_dict: Mapping[str, np.ndarray]) -> tuple[str, ...]:
    """Fields of the network that nothing in a state dict shows.

    They are the number of heads, where neither an array nor the name of the size says it, and the
    shift, for keys of MSCA's authors, whose networks may be a ViT, TokShift or MSCA.
    """
    source = find_source(state_dict)
    if source is None:
        return ()
    heads = isinstance(_propose_sizes(state_dict).get("heads"), Choice)
    return (("heads",) if heads else ()) + (SHAPELESS_FIELDS if source is AUTHORS else ())


def _propose_sizes(state_dict: Mapping[str, np.ndarray]) -> dict[str, Any]:
    keys, lie_as_here = _canonical_keys(state_dict), find_source(state_dict) is GOOGLE
    positions = state_dict.get(keys.get(POSITIONS, ""))
    return propose_sizes(find_sizes(keys, state_dict, lie_as_here), positions)


def _count_classes(state_dict: Mapping[str, np.ndarray], keys: Mapping[str, str]) -> int:
    """Classes of the head; 0 where there is none. `keys`: canonical key → key."""
    kernel = keys.get(f"{HEAD}weight")
    if kernel is None or not np.ndim(state_dict[kernel]):
        return 0
    return np.shape(state_dict[kernel])[-1 if find_source(state_dict) is GOOGLE else 0]


def _refuse_relatives(state_dict: Mapping[str, np.ndarray]) -> None:
    if relative := find_relative(state_dict):
        key, description = relative
        raise UserError(
            f"the file's network {description}: {key} {list(np.shape(state_dict[key]))}; only "
            "plain ViTs load, such as Google's ViT-B_16.npz and vit_base_patch16_224 of timm"
        )
