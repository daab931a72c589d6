"""Networks that are like a ResNet and do not load as one, and what shows which they are.

Keys and shapes show most of them (`find_relative`). A few have the keys and shapes of a network
that loads; only the config of the program that trained them tells them apart (`check_config`).
"""

import json
import re
from collections.abc import Mapping

import numpy as np

from aia_jax.errors import UserError
from aia_jax.models.resnet.torch_sources import HUGGING_FACE, MMACTION, find_source
from aia_jax.models.torch_bottlenecks import IN_BLOCK

# Patterns of canonical keys that no plain ResNet has, and what such a key shows about its network.
# The first pattern that matches counts.
_NOT_PLAIN = (
    (r"features\.\d+\.conv\.\d+\..*|layer\d+\.\d+\.conv\.\d+\..*", "is a MobileNetV2"),
    (r"(conv_stem|blocks\.\d+\.\d+\.conv_(pw|dw))\..*", "is a MobileNet or an EfficientNet"),
    (r"conv1_7x7_s2\..*|inception_\d\w_.*", "is a BNInception"),
    (r"(slow|fast)_path\..*|s\d\.pathway\d_.*", "has a slow and a fast path (SlowFast)"),
    (r".*\.(conv_[st]|bn_s)\..*", "convolves over space and over time in turn (R(2+1)D)"),
    (r".*\.tam\..*", "has temporal adaptive modules (TANet)"),
    (r".*\.net1\..*", "moves its channels by offsets that it computes (TIN)"),
    (r"neck\..*", "joins several stages in a neck (TPN)"),
    (r"cls_head\.consensus\..*", "classifies relations between frames (TRN)"),
    (r"(cls|roi|bbox|rpn|decode|auxiliary|mask)_head\..*", "has another head"),
    (r"(body|rpn|roi_heads)\..*", "detects objects"),
    (r"aux_classifier\..*|classifier\.0\.convs\..*", "segments pictures"),
    (r"conv1\.\d+\..*", "has a stem of several convolutions (ResNet-C, -D, -S or -T)"),
    (
        rf"{IN_BLOCK}(se|attn)\..*",
        "has another attention in its blocks (squeeze-and-excitation, ECA and the like)",
    ),
    (rf"{IN_BLOCK}non_local_block\..*", "has non-local blocks that do not pool keys and values"),
    (rf"{IN_BLOCK}conv\d\.\d\.conv\..*", "has depthwise convolutions over time (CSN)"),
    (
        rf"{IN_BLOCK}(conv\d\.(?!weight|bias)|convs\.).*",
        "has blocks of several branches (SK, Res2Net or ResNeSt)",
    ),
    (rf"{IN_BLOCK}downsample\.2\..*", "pools in its shortcuts (ResNet-D)"),
    (r"(stem|stages)\..*", "is not a ResNet with torchvision's names"),
)


def find_relative(shapes: Mapping[str, tuple[int, ...]]) -> tuple[str, str] | None:
    """A canonical key that shows a difference from a plain ResNet, and the difference in words.

    Args:
        shapes: canonical key → shape.
    """
    for pattern, description in _NOT_PLAIN:
        if name := next((name for name in shapes if re.fullmatch(pattern, name)), None):
            return name, description
    if name := next((name for name in shapes if is_3d_convolution(name, shapes[name])), None):
        return name, "has 3-D convolutions (I3D, SlowOnly and the like)"
    stem, first = "conv1.weight", "layer1.0.conv2.weight"
    if first not in shapes:
        return None
    if len(shapes.get(stem, ())) == 4 and shapes[stem][1] != 3:
        return stem, "takes no RGB frames (but optical flow, differences of frames, or sound)"
    if not any(name.startswith("layer1.0.conv3") for name in shapes):
        return first, "has basic blocks of two convolutions (ResNet-18 or -34)"
    if shapes[first][:1] != shapes[first][1:2]:
        return first, "has grouped convolutions (ResNeXt)"
    if shapes[first][:1] != shapes.get(stem, shapes[first])[:1]:
        return first, "has wide blocks (Wide ResNet)"
    if not any(name.endswith("running_mean") for name in shapes):
        norm = next((name for name in shapes if "bn" in name), first)
        return norm, "has no running statistics (group normalisation)"
    lonely = (name for name in shapes if name.endswith("nl.g.0.weight"))
    if name := next((n for n in lonely if n.replace(".g.0.", ".theta.") not in shapes), None):
        return name, "has Gaussian non-local blocks, without a layer theta"
    return None


def is_3d_convolution(name: str, shape: tuple[int, ...]) -> bool:
    """Whether an array is the kernel of a bottleneck's 3-D convolution, which no ResNet has."""
    return len(shape) == 5 and bool(re.match(rf"{IN_BLOCK}(T?conv\d?|downsample)\.", name))


def check_config(state_dict: Mapping[str, np.ndarray], config_text: str | None) -> None:
    """Compares what the config of the training program says with the networks here.

    Args:
        state_dict: one that `recognise` describes.
        config_text: the config in its program's language, as the file or the JSON file beside it
            has it; None where there is none.

    Raises:
        UserError: the file's network computes something else with the same arrays; or other
            networks have the same arrays, and nothing says which one it is.
    """
    source, text = find_source(state_dict), config_text or ""
    if source is MMACTION:
        if re.search(r"\bstyle['\"]?\s*[=:]\s*['\"]caffe", text):
            raise _refusal("has its strides in the 1x1 convolutions", "style='caffe'")
        if key := next((key for key in state_dict if ".non_local_block." in key), None):
            _check_non_local(key, text)
        return
    fields = _read_json(text)
    if source is HUGGING_FACE:
        for field, usual, description in (
            ("downsample_in_first_stage", False, "has a stride in its first stage"),
            ("downsample_in_bottleneck", False, "has its strides in the 1x1 convolutions"),
            ("hidden_act", "relu", "has another activation than ReLU"),
        ):
            if (value := fields.get(field, usual)) != usual:
                raise _refusal(description, f"{field}={value!r}")
    elif re.search("aa|blur", architecture := str(fields.get("architecture", ""))):
        raise _refusal("pools with antialiasing", f"architecture={architecture!r}")


def _check_non_local(key: str, text: str) -> None:
    """Refuses blocks of mmaction2 that are not embedded Gaussians of unscaled products.

    Args:
        key: of a non-local block.
        text: the config.
    """
    settings = _read_call(text, "non_local_cfg")
    if settings is None:
        raise UserError(
            f"the file's network has non-local blocks ({key}), and no config in the file says "
            "which: embedded Gaussians, which load, and dot products have the same keys; give the "
            "file as it was downloaded, with its `meta`"
        )
    mode = re.search(r"\bmode['\"]?\s*[=:]\s*['\"](\w+)", settings)
    if mode and mode[1] != "embedded_gaussian":
        raise _refusal("has non-local blocks of another kind", f"mode={mode[1]!r}")
    if not re.search(r"\buse_scale['\"]?\s*[=:]\s*False", settings):  # mmcv's default is True
        raise _refusal("divides the products in its non-local blocks by √d", "use_scale=True")


def _read_call(text: str, name: str) -> str | None:
    """What stands between the brackets behind `name=dict(` or `'name': {` in a Python text."""
    begin = re.search(rf"\b{name}['\"]?\s*[=:]\s*(?:dict\(|{{)", text)
    if begin is None:
        return None
    depth, end = 1, begin.end()
    while end < len(text) and depth:
        depth += (text[end] in "({[") - (text[end] in ")}]")
        end += 1
    return text[begin.end() : end]


def _read_json(text: str) -> Mapping[str, object]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _refusal(description: str, setting: str) -> UserError:
    return UserError(
        f"the file's network {description}: {setting} in its config; no network here does"
    )
