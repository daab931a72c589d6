"""Finds the state dicts in a checkpoint, and takes one: of several it says which.

Training programs store weights under some name beside an optimizer's state, options and logs, and
beside the weights often their moving average.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from aia_jax.errors import UserError, describe, shorten
from aia_jax.weights.pickled_types import as_plain
from aia_jax.weights.torch_tensors import is_array

TOP = "top"  # name of the state dict that the file itself is
# Names under which programs store a network's weights, the usual ones first.
_USUAL = ("state_dict", "model_state_dict", "model_state", "model", "network", "net", "module")
_AVERAGE = re.compile(r"(?:^|[._])(?:ema|averaged?|swa|teacher)(?:$|[._])", re.IGNORECASE)
_NO_WEIGHTS = re.compile(
    r"optim|sched|scaler|rng|random|loss|criterion|meta$|message_hub|args$", re.IGNORECASE
)
# What `find_about` reads of a checkpoint beside its weights.
_READ = frozenset(["meta", "message_hub", "epoch", "cfg", "config", "arch"])
_READ |= {"CLASSES", "classes", "class_names", "label_names", "id2label", "idx_to_class"}
_READ |= {"class_to_idx", "pytorch-lightning_version"}
_PADDLE = "StructuredToParameterName@@"  # a key in PaddlePaddle's pickles
_DEEPEST = 4  # dicts in dicts
# The beginnings of an average's keys, where it is a part of the network.
_AVERAGE_KEY = re.compile(
    r"(?:module\.)?(ema|ema_model|model_ema|averaged_model|teacher)\.(?:module\.)?"
)
_WRAPPER = re.compile(r"(?:module\.)*(?:model|network|student)\.")  # on all keys


class Taken(NamedTuple):
    """A state dict of a file.

    Attributes:
        entries: key → tensor or array.
        notes: lines for people on what was taken and what was left.
    """

    entries: dict[str, Any]
    notes: tuple[str, ...]


def take_state_dict(path: Path, content: Any, choice: str | None = None) -> Taken:
    """Takes a state dict of a file: the weights' moving average, where the file holds one.

    Names are the keys that lead there, with dots between, such as "state_dict" and "model_ema";
    "top" is the file itself.

    Args:
        path: of the file, for error messages.
        content: of the file: a state dict, or dicts around it.
        choice: name of another one; None takes the average, or the only other one.

    Raises:
        UserError: there is none, there are several and none is the usual one, or none has the
            name.
    """
    if isinstance(content, Mapping) and _PADDLE in content:
        raise UserError(f"{path} is a file of PaddlePaddle; give a checkpoint of PyTorch")
    found = _find_state_dicts(content)
    if not found:
        raise UserError(f"{path} {_describe_content(content)}")
    found = {part: value for name in found for part, value in _split(name, found[name]).items()}
    name = _choose(path, found, choice, _swaps_average(content))
    notes = []
    others = [other for other in found if other != name]
    if others:
        kind = "the moving average" if _is_average(name, content, found) else "the weights"
        notes.append(
            f"the file holds {len(found)} state dicts; taken: {name} ({kind}); "
            f"--state-dict {' or '.join(map(shorten, others))} takes another one"
        )
    entries, more = _unwrap(found[name])
    return Taken(entries, (*notes, *more, *_describe_rest(content, found)))


def _find_state_dicts(content: Any) -> dict[str, dict[str, Any]]:
    """Name → state dict, for every one in a file's content."""
    found: dict[str, dict[str, Any]] = {}
    seen: set[int] = set()  # a container may hold itself

    def look(names: tuple[str, ...], value: Any) -> None:
        if not isinstance(value, Mapping) or id(value) in seen or len(names) > _DEEPEST:
            return
        seen.add(id(value))
        arrays = {key: v for key, v in value.items() if isinstance(key, str) and is_array(v)}
        if 2 * len(arrays) > len(value):
            found[".".join(names) or TOP] = {key: as_plain(v) for key, v in arrays.items()}
        for key, inner in value.items():
            if isinstance(key, str) and not _NO_WEIGHTS.search(key):
                look((*names, key), inner)

    look((), content)
    usual = [name for name in found if name.rpartition(".")[2] in _USUAL]
    if TOP in found and usual:
        del found[TOP]  # a few numbers beside the weights, such as the best accuracy
    return found


def _split(name: str, entries: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The same state dict, or two where a moving average is a part of the network.

    mmcv keeps the trained weights under `ema_layer1_0_conv1_weight` while `layer1.0.conv1.weight`
    is the average (its EMAHook swaps both before it saves).
    """
    prefix = "" if name == TOP else f"{name}."
    averaged = {key: match for key in entries if (match := _AVERAGE_KEY.match(key))}
    if averaged and len(averaged) < len(entries):
        part = next(iter(averaged.values()))[1]
        return {
            name: {key: value for key, value in entries.items() if key not in averaged},
            f"{prefix}{part}": {key[m.end() :]: entries[key] for key, m in averaged.items()},
        }
    copies = {f"ema_{key.replace('.', '_')}": key for key in entries if "." in key}
    trained = {copies[key]: value for key, value in entries.items() if key in copies}
    if not trained:
        return {name: entries}
    plain = {key: value for key, value in entries.items() if key not in copies}
    return {name: plain, f"{prefix}ema_": plain | trained}


def _choose(path: Path, found: Mapping[str, Any], choice: str | None, swaps: bool) -> str:
    """The name of the state dict to take."""
    names = ", ".join(map(shorten, found))
    if choice is not None:
        if choice not in found:
            raise UserError(f"{path} has no state dict {shorten(choice)}; it holds {names}")
        return choice
    if "state_dict" in found and swaps:
        return "state_dict"
    averages = [name for name in found if _AVERAGE.search(name) and not name.endswith("ema_")]
    usual = sorted(
        (name for name in found if name.rpartition(".")[2] in _USUAL),
        key=lambda name: _USUAL.index(name.rpartition(".")[2]),
    )
    for names_of_kind in (averages, usual[:1], [name for name in found if name not in averages]):
        if len(names_of_kind) == 1:
            return names_of_kind[0]
        if names_of_kind:
            break
    raise UserError(f"{path} holds several state dicts: {names}; choose one with --state-dict NAME")


def _swaps_average(content: Any) -> bool:
    """Whether the file is mmengine's, whose `state_dict` is the average where there is one."""
    if not isinstance(content, Mapping) or "ema_state_dict" not in content:
        return False
    meta = content.get("meta")
    return "message_hub" in content or (isinstance(meta, Mapping) and "mmengine_version" in meta)


def _is_average(name: str, content: Any, found: Mapping[str, Any]) -> bool:
    if _swaps_average(content):
        return name == "state_dict"
    prefix = "" if name == TOP else f"{name}."
    if f"{prefix}ema_" in found:  # mmcv's
        return True
    return bool(_AVERAGE.search(name)) and not name.endswith("ema_")


def _unwrap(entries: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Leaves off what training programs put before keys, where that makes no two keys equal.

    `module.` (DistributedDataParallel) before all of the keys stays: the networks' names know it.
    """
    notes = []
    renamed = {key.replace("_orig_mod.", ""): value for key, value in entries.items()}
    if renamed.keys() != entries.keys():
        notes.append("_orig_mod. (torch.compile) in the keys is left off")
    if all(map(_WRAPPER.match, renamed)):
        first = _WRAPPER.match(next(iter(renamed)))[0]
        notes.append(f"{first} before the keys is left off")
        renamed = {_WRAPPER.sub("", key, count=1): value for key, value in renamed.items()}
    wrapped = [key for key in renamed if key.startswith("module.")]
    if 0 < len(wrapped) < len(renamed) and not any(
        key.removeprefix("module.") in renamed for key in wrapped
    ):
        notes.append(f"module. before {len(wrapped)} of {len(renamed)} keys is left off")
        renamed = {key.removeprefix("module."): value for key, value in renamed.items()}
    if len(renamed) < len(entries):
        return entries, []
    return renamed, notes


def _describe_rest(content: Any, found: Mapping[str, Any]) -> list[str]:
    """A note on the optimizer's state and the like, which lie beside the weights."""
    roots = _READ | {name.partition(".")[0] for name in found}
    rest = [
        key
        for key, value in content.items()
        if isinstance(key, str) and key.isprintable() and key not in roots and not is_array(value)
    ]
    return [f"beside it, not read: {shorten(', '.join(rest))}"] if rest else []


def _describe_content(content: Any) -> str:
    """What a file holds that holds no state dict."""
    if not isinstance(content, Mapping) or not content:
        text = "nothing" if isinstance(content, Mapping) else f"a value of type {_kind(content)}"
        return f"holds {text}, not a state dict (key → tensor)"
    if "param_groups" in content:
        return "holds an optimizer's state alone; give the file with the weights"
    key = next(iter(content))
    key_text = describe(key) if isinstance(key, str | int) else f"a key of type {_kind(key)}"
    return (
        f"is not a state dict: {key_text} holds a value of type {_kind(content[key])}; expected a "
        "tensor under every key"
    )


def _kind(value: Any) -> str:
    return getattr(value, "name", None) or type(value).__name__
