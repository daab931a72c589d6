"""What may change between a run and its continuation, and what must not."""

from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from aia_jax.config import from_json
from aia_jax.errors import UserError

# The step counts batches: with another of these, the same step would be another place in the data.
_POSITION = ("seed", "train.batch_size", "data.train_split", "data.label")

# Where and how fast the run computes, not what: no word is lost on them.
_LOADING = ("data.dir", "data.workers", "data.threads", "data.prefetch", "data.expected")
_FREE = (*_LOADING, "init_from", "compile_cache", "train.remat", "train.log_every", "log", "profile", "mesh", "eval")


def compare_with_checkpoint(config: ConfigDict, class_names: Sequence[str], meta: Mapping[str, Any]) -> list[str]:
    """Compares a run's config and classes with those its checkpoint was saved with.

    Returns:
        One text for each difference that changes the rest of the run, for the user to see.

    Raises:
        UserError: a difference with which the run cannot go on exactly.
    """
    saved = from_json(meta["config"])
    if list(meta["class_names"]) != list(class_names):
        raise UserError(
            f"data.dir {config.data.dir} names {len(class_names)} classes that are not the {len(meta['class_names'])} of the checkpoint "
            f"({_first_difference(meta['class_names'], class_names)}); use the data of the run, or another --workdir"
        )
    notes = []
    for key, (before, now) in _differences(saved, config).items():
        if key in _POSITION:
            raise UserError(
                f"config key {key}: the run in this workdir has {before!r}, now it is {now!r}, and its place in the data would be lost; "
                f"set it back, or start in another --workdir with --config.init_from"
            )
        if not any(key == free or key.startswith(f"{free}.") for free in _FREE):
            notes.append(f"{key} was {before!r} up to here and is {now!r} from here on")
    return notes


def _differences(saved: Any, config: Any, prefix: str = "") -> dict[str, tuple[Any, Any]]:
    found = {}
    for key in sorted(set(saved) | set(config)):
        before, now = saved.get(key), config.get(key)
        if isinstance(before, ConfigDict) and isinstance(now, ConfigDict):
            found |= _differences(before, now, f"{prefix}{key}.")
        elif before != now:
            found[f"{prefix}{key}"] = (before, now)
    return found


def _first_difference(before: Sequence[str], now: Sequence[str]) -> str:
    for k, (a, b) in enumerate(zip(before, now, strict=False)):
        if a != b:
            return f"class {k} was {a!r} and is {b!r}"
    return "the first ones agree"
