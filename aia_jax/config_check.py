"""Checks a config's values, alone and together, before anything is loaded or compiled."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from ml_collections import ConfigDict

from aia_jax.config_fields import leaves
from aia_jax.errors import UserError, describe
from aia_jax.frame_geometry import short_side, smallest_side
from aia_jax.models import model_from_config, training_model
from aia_jax.models.fields import value_text
from aia_jax.ops.frames import check_time_parts

_PROTOCOLS = ("center", "twice", "dense10")
# The rules of aia_jax/data/sampling.py, and how they are told to a user.
_SAMPLING = re.compile(r"reference|uniform|mmaction2|shared|dense[1-9]\d{0,4}")
_SAMPLINGS = "reference, uniform, mmaction2, shared, or denseN such as dense32 for every 32nd frame"

_LARGEST = 2**31 - 1  # sizes and steps have 32 bits in XLA
_MOST_HELPERS = 1024  # processes, threads, batches: more would only fill the memory


def _mix_strength() -> tuple[Callable[[Any], bool], str]:
    """α of Beta(α, α): at 1e-6 λ is 0 or 1 already, far below it is no number in float32."""
    return lambda value: value == 0 or value >= 1e-6, "0 or at least 1e-6"


def _at_least(low: int) -> tuple[Callable[[Any], bool], str]:
    return lambda value: value >= low, f"at least {low}"


def _between(low: int, high: int) -> tuple[Callable[[Any], bool], str]:
    return lambda value: low <= value <= high, f"from {low} to {high:,}"


def _one_of(*texts: str) -> tuple[Callable[[Any], bool], str]:
    named = [text or '""' for text in texts]
    return lambda value: value in texts, f"{', '.join(named[:-1])} or {named[-1]}"


_POSITIVE = (lambda value: value > 0, "more than 0")
_SHARE = (lambda value: 0 <= value <= 1, "from 0 to 1")
_BELOW_ONE = (lambda value: 0 <= value < 1, "from 0 up to, not including, 1")

# field: (test, the values that pass it)
_RANGES: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "seed": _at_least(0),
    "data.num_classes": _at_least(0),
    "data.num_frames": _at_least(1),
    "data.crop": _at_least(1),
    "data.resize": (
        lambda size: short_side(size) or (len(size) == 2 and min(size) >= 1),
        "two whole numbers from 1: height, width; or a short side, such as short256",
    ),
    "data.scales": (
        lambda scales: len(scales) > 0 and all(0 < scale <= 1 for scale in scales),
        "one or more shares above 0 and up to 1",
    ),
    "data.short_side": (
        lambda sides: not sides or (len(sides) == 2 and 1 <= sides[0] <= sides[1]),
        "none, or two whole numbers from 1: the least and the greatest",
    ),
    "data.resized_crop": (
        lambda shares: not shares or (len(shares) == 2 and 0 < shares[0] <= shares[1] <= 1),
        "none, or two shares above 0 and up to 1: the least and the greatest",
    ),
    "data.flip": _SHARE,
    "data.color_jitter": (
        lambda changes: (
            len(changes) == 4 and min(changes) >= 0 and max(changes[:3]) <= 1 and changes[3] <= 0.5
        ),
        "four numbers: brightness, contrast, saturation from 0 to 1, hue from 0 to 0.5",
    ),
    "data.color_jitter_prob": _SHARE,
    "data.randaugment": _between(0, 20),
    "data.randaugment_magnitude": _between(0, 10),
    "data.randaugment_prob": _SHARE,
    "data.erase": _SHARE,
    "data.balance": _SHARE,
    "data.label_kind": _one_of("", "single", "multi"),
    "data.workers": _between(0, _MOST_HELPERS),
    "data.threads": _between(1, _MOST_HELPERS),
    "data.prefetch": _between(1, _MOST_HELPERS),
    "data.damaged_share": _SHARE,
    "data.expected.train": _at_least(0),
    "data.expected.validation": _at_least(0),
    "optim.lr": _POSITIVE,
    "optim.lr_batch_size": _at_least(1),
    "optim.momentum": _BELOW_ONE,
    "optim.betas": (
        lambda betas: not betas or (len(betas) == 2 and all(0 <= beta < 1 for beta in betas)),
        "none, or two numbers from 0 up to, not including, 1",
    ),
    "optim.schedule": _one_of("steps", "cosine"),
    "optim.final_lr": _SHARE,
    "optim.layer_decay": (lambda factor: 0 < factor <= 1, "above 0 and up to 1"),
    "optim.weight_decay": _at_least(0),
    "optim.clip_norm": _at_least(0),
    "optim.milestones": (
        lambda epochs: all(a < b for a, b in zip((0, *epochs), epochs, strict=False)),
        "rising epochs from 1",
    ),
    "optim.decay": _POSITIVE,
    "optim.warmup_epochs": _at_least(0),
    "train.batch_size": _at_least(1),
    "train.epochs": _at_least(1),
    "train.accumulate": _at_least(1),
    "train.label_smoothing": _BELOW_ONE,
    "train.class_weights": (
        lambda weights: isinstance(weights, str) or (weights and min(weights) >= 0 < max(weights)),
        "numbers from 0, not all 0",
    ),
    "train.mixup": _mix_strength(),
    "train.cutmix": _mix_strength(),
    "train.videomix": _mix_strength(),
    "train.mix_prob": _SHARE,
    "train.best_by": _one_of("", "top1", "top5", "loss", "mean_class_accuracy", "map"),
    "train.patience": _at_least(0),
    "train.ema_decay": _BELOW_ONE,
    "svmix.mode": _one_of("both", "spatial", "temporal"),
    "svmix.prob": _SHARE,
    "svmix.ema_decay": _BELOW_ONE,
    "svmix.lr": _POSITIVE,
    "svmix.momentum": _BELOW_ONE,
    "svmix.weight_decay": _at_least(0),
    "train.bn_group_size": _at_least(0),
    "train.log_every": _at_least(1),
    "train.checkpoint_every": _at_least(0),
    "train.val_every": _at_least(1),
    "eval.batch_size": _at_least(1),
    "profile.start": _at_least(0),
    "profile.stop": _at_least(0),
    "mesh.data": (lambda size: size == -1 or size >= 1, "-1 (all remaining devices) or at least 1"),
    "mesh.fsdp": _at_least(1),
    "mesh.time": _at_least(1),
}


def check(config: ConfigDict) -> None:
    """Checks each field, and fields that depend on each other; the network checks its own.

    A network that was opened where no recipes are installed has no section of training.

    Raises:
        UserError: for the first value that cannot work: its key, what was found, what is expected.
    """
    found = leaves(config)
    for key, (test, expected) in _RANGES.items():
        if key in found and not test(found[key]):
            raise UserError(
                f"config key {key}: found {value_text(found[key]) or 'nothing'}, expected "
                f"{expected}"
            )

    for key, value in found.items():
        numbers = value if isinstance(value, tuple) else (value,)
        largest = max((number for number in numbers if type(number) is int), default=0)
        if largest > _LARGEST and key != "seed":
            raise UserError(
                f"config key {key}: found {value_text(value)}, expected at most {_LARGEST:,}"
            )
    if config.eval.protocol not in _PROTOCOLS:
        raise UserError(
            f"config key eval.protocol: found {value_text(config.eval.protocol)}, expected "
            f"{' or '.join(_PROTOCOLS)}"
        )
    if not _SAMPLING.fullmatch(config.data.sampling):
        raise UserError(
            f"config key data.sampling: found {value_text(config.data.sampling)}, expected "
            f"{_SAMPLINGS}"
        )
    # A network that cannot be built says which field is wrong.
    model = training_model(config) if "train" in config else model_from_config(config)
    data = config.data
    if data.crop > smallest_side(data.resize):
        raise UserError(
            f"config key data.crop: {data.crop} pixels do not fit in the stored frames of "
            f"{value_text(data.resize)} (data.resize)"
        )
    if "train" in config:
        _check_training(config, model.segment_frames)


def _check_training(config: ConfigDict, segment_frames: int) -> None:
    """Checks what only a recipe has, and no network that was opened without one."""
    data, train = config.data, config.train
    _check_groups(config.optim.groups)
    _check_schedule(config.optim)
    if data.short_side and data.resized_crop:
        raise UserError(
            f"config key data.resized_crop: found {value_text(data.resized_crop)} beside "
            f"data.short_side={value_text(data.short_side)}; a clip is cropped in one way: empty "
            "one of them"
        )
    if data.short_side and data.crop > data.short_side[0]:
        raise UserError(
            f"config key data.short_side: found {value_text(data.short_side)}, expected no side "
            f"below {data.crop} pixels, the crop's (data.crop)"
        )
    if train.videomix and data.num_frames * segment_frames == 1:
        raise UserError(
            f"config key train.videomix: found {value_text(train.videomix)} with clips of one "
            "frame (data.num_frames), of which no cuboid is a part; use train.cutmix"
        )
    if train.batch_size % train.accumulate:
        raise UserError(
            f"config key train.batch_size: {train.batch_size} clips cannot be cut into "
            f"{train.accumulate} equal parts (train.accumulate)"
        )
    if train.bn_group_size and train.batch_size // train.accumulate % train.bn_group_size:
        parts = f" in {train.accumulate} parts (train.accumulate)" if train.accumulate > 1 else ""
        raise UserError(
            f"config key train.bn_group_size: {train.batch_size} clips (train.batch_size){parts} "
            f"do not split into groups of {train.bn_group_size}"
        )
    profile = config.profile
    if profile.stop < profile.start or (profile.stop and not profile.start):
        raise UserError(
            f"config key profile.stop: found {profile.stop} with profile.start={profile.start}, "
            "expected a first step from 1 and a last step not before it, or 0 and 0"
        )
    check_time_parts(data.num_frames, config.mesh.time, segment_frames)


def _check_schedule(optim: ConfigDict) -> None:
    """Checks that no field of the other schedule is set, which would do nothing."""
    if optim.schedule == "cosine" and optim.milestones:
        raise UserError(
            f"config key optim.milestones: found {value_text(optim.milestones)} beside "
            "optim.schedule=cosine, which falls at every step; set none "
            "(--config.optim.milestones=), or optim.schedule=steps"
        )
    if optim.schedule == "steps" and optim.final_lr:
        raise UserError(
            f"config key optim.final_lr: found {value_text(optim.final_lr)} beside "
            "optim.schedule=steps, which ends behind its last milestone; set 0, or "
            "optim.schedule=cosine"
        )


def _check_groups(groups: tuple[Any, ...]) -> None:
    """Checks the form of `optim.groups`.

    Whether they cover every parameter of the network is checked once there are parameters.
    """
    for group in groups:
        match group:
            case (str(pattern), {**factors}) if set(factors) <= {"lr", "decay"} and all(
                _is_factor(value) for value in factors.values()
            ):
                try:
                    re.compile(pattern)
                except (re.error, RecursionError, OverflowError) as error:
                    raise UserError(
                        f"config key optim.groups: {describe(pattern)} is not a regular expression "
                        f"({error})"
                    ) from error
            case _:
                raise UserError(
                    f"config key optim.groups: found {describe(group)}, expected (pattern, "
                    "{'lr': factor, 'decay': factor})"
                )


def _is_factor(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value <= _LARGEST
