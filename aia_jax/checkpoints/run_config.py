"""Which fields of a config decide what, and how a run's own config meets the one that is given."""

from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from aia_jax import config as configs
from aia_jax.config_check import check
from aia_jax.config_fields import assign, leaves
from aia_jax.errors import UserError
from aia_jax.models.fields import value_text

# A checkpoint's step counts batches. Another value of these fields gives other batches, so the same
# step would be another position in the data.
_POSITION = ("seed", "train.batch_size", "data.train_split", "data.label", "data.balance")

# Another value of these fields makes another state, which a checkpoint does not hold.
_STATE = ("optim.name", "train.method")
_AVERAGE = "train.ema_decay"  # so does this one, where it begins or ends the average

# These fields say where and how fast the run computes. They do not change what it computes, so the
# run may go on with other values, and no note says so.
_FREE = (
    "data.changed_on_purpose",
    "data.dir",
    "data.workers",
    "data.threads",
    "data.prefetch",
    "data.expected",
    "paper",
    "init_from",
    "compile_cache",
    "train.remat",
    "train.log_every",
    "log",
    "profile",
    "mesh",
    "eval",
)

# All other fields of the network make it another one, though its variables may be the same.
_SAME_NETWORK = ("model.compute_dtype", "model.dropout")

# Fields of `data` and `eval` that do not decide the numbers of a test; all others do.
_NOT_TESTED = (
    "data.balance",
    "data.changed_on_purpose",
    "data.color_jitter",
    "data.color_jitter_prob",
    "data.damaged_share",
    "data.erase",
    "data.expected",
    "data.flip",
    "data.name",
    "data.num_classes",  # the class names are compared
    "data.prefetch",
    "data.randaugment",
    "data.randaugment_magnitude",
    "data.randaugment_prob",
    "data.resized_crop",
    "data.scales",
    "data.short_side",
    "data.threads",
    "data.train_split",
    "data.workers",
    "eval.batch_size",
    "model.dropout",
)

# A test takes these from the recipe that is given, because they belong to the machine.
_MACHINE = (
    "compile_cache",
    "data.damaged_share",
    "data.prefetch",
    "data.threads",
    "data.workers",
    "eval.batch_size",
    "mesh",
)
_ANY_MACHINE = {"mesh.data": -1, "mesh.fsdp": 1, "mesh.time": 1}


def compare_with_checkpoint(
    config: ConfigDict,
    class_names: Sequence[str],
    meta: Mapping[str, Any],
    same: Sequence[str] = (),
) -> list[str]:
    """Compares a run's config and classes with those its checkpoint was saved with.

    Args:
        config: of the run.
        class_names: by label.
        meta: of the checkpoint.
        same: keys whose two values, if they differ, mean the same.

    Returns:
        One text for each difference that changes the rest of the run, for the user to see.

    Raises:
        UserError: a difference with which the run cannot go on exactly.
    """
    saved = configs.from_json(meta["config"])
    if list(meta["class_names"]) != list(class_names):
        raise UserError(
            f"data.dir {config.data.dir} names {len(class_names)} classes that are not the "
            f"{len(meta['class_names'])} of the checkpoint "
            f"({first_difference(meta['class_names'], class_names)}); use the data of the run, or "
            "another --workdir"
        )
    notes = []
    for key, (before, now) in _differences(saved, config).items():
        if key in same:
            continue
        if is_network(key):
            raise UserError(
                f"config key {key}: the run in this workdir has {_text(before)}, now it is "
                f"{_text(now)}, which is another network; set it back, or start in another "
                "--workdir with --config.init_from"
            )
        if key in _POSITION:
            raise UserError(
                f"config key {key}: the run in this workdir has {before!r}, now it is {now!r}, and "
                "its position in the data would be lost; set it back, or start in another "
                "--workdir with --config.init_from"
            )
        if key in _STATE or (key == _AVERAGE and 0 in (before, now)):
            raise UserError(
                f"config key {key}: the run in this workdir has {before!r}, now it is {now!r}, "
                "whose state no checkpoint of the run holds; set it back, or start in another "
                "--workdir with --config.init_from"
            )
        if not _is_one_of(key, _FREE):
            notes.append(f"{key} was {before!r} up to here and is {now!r} from here on")
    return notes


def config_to_test(
    saved: ConfigDict, overrides: Sequence[str] = (), recipe: ConfigDict | None = None
) -> tuple[ConfigDict, dict[str, tuple[Any, Any]], list[str]]:
    """The config with which a trained run is tested: its own, where nothing else is asked for.

    A recipe alone changes nothing that decides a number, because the run may have been trained with
    overrides of it. Where it differs from the run, a note says so.

    Args:
        saved: the config that the checkpoint holds.
        overrides: "section.key=value" each, from the command line.
        recipe: the one that the command line names; it gives what belongs to the machine, such as
            `eval.batch_size` and `mesh`.

    Returns:
        The config; by key, (the run's value, the value in its place) of each override that decides
        numbers; notes for the user.

    Raises:
        UserError: an override is of no use, or it makes another network than the trained one.
    """
    config = ConfigDict(saved.to_dict())
    machine = _ANY_MACHINE if recipe is None else leaves(recipe)
    config.update_from_flattened_dict(
        {key: value for key, value in machine.items() if _is_one_of(key, _MACHINE)}
    )
    config.lock()
    keys = set()
    for override in overrides:
        key, _, text = override.partition("=")
        assign(config, key, text)
        keys.add(key)
    changed = {
        key: pair
        for key, pair in _differences(saved, config).items()
        if is_network(key) or decides_numbers(key)
    }
    for key, (before, now) in changed.items():
        if is_network(key):
            raise UserError(
                f"--config.{key}={_text(now)}: the run was trained with {_text(before)}, and its "
                "weights are of no use to another network; leave it out"
            )
    if overrides:
        check(config)
    notes = []
    if recipe is not None:
        notes = _describe_recipe(saved, recipe, keys)
    return config, changed, notes


def is_network(key: str) -> bool:
    """Whether another value of the field makes another network, to which the weights do not fit.

    Their shapes may fit: those of TSN and TSM are the same.
    """
    if key == "data.num_classes":
        return True
    return key.startswith("model.") and key not in _SAME_NETWORK


def decides_numbers(key: str) -> bool:
    """Whether another value of the field may change the result of a test."""
    return key.startswith(("model.", "data.", "eval.")) and not _is_one_of(key, _NOT_TESTED)


def first_difference(before: Sequence[str], now: Sequence[str]) -> str:
    """The first class that differs between two lists, in words."""
    for k, (a, b) in enumerate(zip(before, now, strict=False)):
        if a != b:
            return f"class {k} was {a!r} and is {b!r}"
    return "the first ones agree"


def _describe_recipe(saved: ConfigDict, recipe: ConfigDict, keys: set[str]) -> list[str]:
    """A note on the fields of a recipe that a test does not follow; none where it follows all.

    Args:
        saved: the run's config.
        recipe: the one that was named.
        keys: that the command line sets by themselves.
    """
    differing = {
        key: pair
        for key, pair in _differences(saved, recipe).items()
        if decides_numbers(key) and key not in keys and pair[1] not in ("", ())
    }
    if "model.name" in differing:
        differing = {
            key: pair
            for key, pair in differing.items()
            if key == "model.name" or not key.startswith("model.")
        }
    if not differing:
        return []
    named = ", ".join(
        f"{key} {_text(before)} (the recipe has {_text(now)})"
        for key, (before, now) in differing.items()
    )
    return [
        f"tested as the run was trained, with {named}; to test otherwise, write --config.key=value"
    ]


def _differences(before: ConfigDict, now: ConfigDict) -> dict[str, tuple[Any, Any]]:
    """Dotted key → both values, None where a config lacks the field; `model.name` first."""
    old, new = leaves(before), leaves(now)
    for values in (old, new):
        # Runs of older versions do not say it; a recipe does not, before the data are opened.
        values["data.label_kind"] = values.get("data.label_kind") or "single"
    keys = sorted(old.keys() | new.keys(), key=lambda key: (key != "model.name", key))
    return {key: (old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key)}


def _is_one_of(key: str, fields: Sequence[str]) -> bool:
    """Whether `key` is one of `fields`, or lies in a section that is."""
    return any(key == field or key.startswith(f"{field}.") for field in fields)


def _text(value: Any) -> str:
    return str(value) if isinstance(value, str) else value_text(value)
