"""Writes a ResNet with the names of other programs, so that their own networks load it.

`python -m aia_jax.weights --format` names the program. What it has no network for is refused.
"""

from collections.abc import Mapping, Sequence

import flax.linen as nn
import numpy as np

from aia_jax.errors import UserError
from aia_jax.models.preprocess import IMAGENET_MEAN, IMAGENET_STD
from aia_jax.models.resnet.placement import has_non_local, same_shift
from aia_jax.models.resnet.torch_non_local import wrap
from aia_jax.models.resnet.torch_shift import show_shift
from aia_jax.models.resnet.torch_sources import HUGGING_FACE, MMACTION, Source, key_of_source
from aia_jax.models.stages import EXPANSION
from aia_jax.models.torch_keys import DEPTHS

# Program → source of its names; torchvision's and timm's are the canonical keys.
FORMATS: Mapping[str, Source | None] = {
    "mmaction2": MMACTION,
    "torchvision": None,
    "timm": None,
    "transformers": HUGGING_FACE,
}

_WIDTH = 64  # channels of the first stage in all these programs


def to_format(
    arrays: Mapping[str, np.ndarray], model: nn.Module, format_name: str
) -> dict[str, np.ndarray]:
    """The state dict of a program's own network.

    Args:
        arrays: canonical key → array in torch's order of axes, of the whole network.
        model: the network.
        format_name: the program's, one of `FORMATS`.

    Raises:
        UserError: the program has no such network; says what it lacks.
    """
    if lack := _find_lack(model, format_name):
        raise UserError(
            f"{format_name} has no network for {model.describe()}: {lack}; the format aia writes "
            "the names of the authors' own network"
        )
    source = FORMATS[format_name]
    if source is None:
        return dict(arrays)
    if source is MMACTION:
        arrays = _without_biases(arrays)
    return {key_of_source(_tsm_key(key, model), source): v for key, v in arrays.items()}


def config_of_format(model: nn.Module, format_name: str) -> str | None:
    """The section `model` of a config with which the program builds the network; or None.

    mmaction2's config says what its keys do not: which non-local blocks a network has, its frames
    and its pixels.
    """
    return _mmaction_config(model) if FORMATS[format_name] is MMACTION else None


def _tsm_key(key: str, model: nn.Module) -> str:
    """A canonical key with `.net` and `.block`, as TSM's authors and mmaction2 write it."""
    key = show_shift(key, model)
    return wrap(key) if model.non_local else key


def _find_lack(model: nn.Module, format_name: str) -> str | None:
    """What a network has and the program's networks do not; None if nothing."""
    is_mmaction = FORMATS[format_name] is MMACTION
    shifts = model.temporal == "tsm"
    if model.attention != "none":
        return f"it has no attention modules (model.attention={model.attention})"
    if shifts and not is_mmaction:
        return "its ResNet has no temporal shift (model.temporal=tsm)"
    if model.non_local and not (shifts and is_mmaction):
        return f"its {'TSN' if is_mmaction else 'ResNet'} has no non-local blocks"
    if shifts and not same_shift(model.stages, model.shift_blocks, "tsm"):
        return (
            "its TSM of this depth shifts every other block of all stages (model.shift_blocks=tsm)"
        )
    if model.stem != "imagenet":
        return f"its ResNet begins with a 7x7 convolution (model.stem={model.stem})"
    if model.width != _WIDTH or model.stages not in DEPTHS:
        blocks = "-".join(map(str, model.stages))
        depths = ", ".join(map(str, DEPTHS.values()))
        return (
            f"its ResNets have {_WIDTH} channels and the depths {depths}, not {model.width} and "
            f"stages of {blocks} blocks"
        )
    return None


def _without_biases(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Moves the bias of a non-local block's last convolution into the mean of its BatchNorm.

    There mmaction2 has no bias. The output stays the same, since the mean is subtracted; a bias of
    zeros, as in what was read from mmaction2, changes no bit.
    """
    biases = {key for key in arrays if key.endswith(".nl.W.0.bias")}
    means = {key.replace(".W.0.bias", ".W.1.running_mean"): key for key in biases}
    return {
        key: value - arrays[means[key]] if key in means else value
        for key, value in arrays.items()
        if key not in biases
    }


def _mmaction_config(model: nn.Module) -> str:
    shifts = model.temporal == "tsm"
    segments = [f"num_segments={model.num_frames}"] if shifts else []
    backbone = [f"type='{'ResNetTSM' if shifts else 'ResNet'}'", "pretrained=None"]
    backbone += [f"depth={DEPTHS[model.stages]}", *segments, "norm_eval=False"]
    if shifts:
        backbone.append(f"shift_div={model.fold_div}")
    if model.non_local:
        places = tuple(
            tuple(int(has_non_local(stage, block)) for block in range(blocks))
            for stage, blocks in enumerate(model.stages)
        )
        norm = "norm_cfg=dict(type='BN3d', requires_grad=True)"
        gaussian = f"sub_sample=True, use_scale=False, {norm}, mode='embedded_gaussian'"
        backbone += [f"non_local={places}", f"non_local_cfg=dict({gaussian})"]
    channels = _WIDTH * EXPANSION * 2 ** (len(model.stages) - 1)
    head = [f"type='{'TSMHead' if shifts else 'TSNHead'}'", *segments]
    head += [f"num_classes={model.num_classes}", f"in_channels={channels}", "spatial_type='avg'"]
    head += ["consensus=dict(type='AvgConsensus', dim=1)", f"dropout_ratio={model.dropout}"]
    head += ["average_clips='prob'", *(["is_shift=True"] if shifts else [])]
    pixels = [f"mean={_scaled(IMAGENET_MEAN)}", f"std={_scaled(IMAGENET_STD)}"]
    pixels = ["type='ActionDataPreprocessor'", *pixels, "format_shape='NCHW'"]
    sections = {"backbone": backbone, "cls_head": head, "data_preprocessor": pixels}
    lines = [_call(name, arguments) for name, arguments in sections.items()]
    return "model = dict(\n    type='Recognizer2D',\n" + "\n".join(lines) + ")\n"


def _call(name: str, arguments: Sequence[str]) -> str:
    """A line of a config for one part of the network."""
    return f"    {name}=dict({', '.join(arguments)}),"


def _scaled(values: np.ndarray) -> list[float]:
    """Pixel values on the scale from 0 to 255, rounded to what configs write."""
    return [round(float(value) * 255, 3) for value in values]
