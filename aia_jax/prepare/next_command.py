"""The command that trains on a prepared data set, fitting its size and this machine."""

import shlex
from pathlib import Path
from typing import Any

from aia_jax.prepare.readers import READERS
from aia_jax.video.decode import cores

_OWN_VIDEOS, _OWN_VIDEOS_SMALL = "configs/own_videos.py", "configs/own_videos_small.py"
_BATCH, _SMALL_BATCH, _WORKERS = 32, 16, 4  # of the recipes
# Frames of a shorter side than this, in pixels, are too coarse for crops of 224.
_COARSE = 160
# Fewer training videos than this are few; they train a small net in minutes.
_FEW_VIDEOS = 1000
# What Linux calls NVIDIA's GPUs (also within Windows), AMD's, and TPU chips.
_ACCELERATORS = ("nvidia[0-9]*", "dxg", "kfd", "accel*")
_ADVICE = (
    f"on a machine with an accelerator, {_OWN_VIDEOS} with --config.init_from=WEIGHTS (from "
    "ImageNet) learns more"
)


def training_command(manifest: dict[str, Any], out: Path) -> tuple[str, str]:
    """The simplest command that trains on the data set, and advice on another; "" if there is none.

    Args:
        manifest: of the data set.
        out: its folder.
    """
    recipe = getattr(READERS[manifest["data_set"]], "RECIPE", "")
    settings, advice, batch, workers = [], "", _BATCH, _WORKERS
    if recipe:
        options = {flag[2:].replace("-", "_"): v for flag, v in manifest["options"].items()}
        recipe = recipe.format_map(options)
    else:
        recipe = _OWN_VIDEOS
        if _has_coarse_frames(manifest) or not (
            _count_videos(manifest) >= _FEW_VIDEOS or has_accelerator()
        ):
            recipe, batch, workers = _OWN_VIDEOS_SMALL, _SMALL_BATCH, 0
            advice = "" if _has_coarse_frames(manifest) else _ADVICE
        label = next(iter(manifest["class_names"]))
        settings = [f"--config.data.label={label}"] if label != "label" else []
    words = ["python", "train.py", "--config", recipe]
    if recipe != _OWN_VIDEOS_SMALL:
        words.append("--config.init_from=WEIGHTS")
    videos = _count_videos(manifest)
    if 0 < videos < batch:  # a power of two, since devices split it evenly
        words.append(f"--config.train.batch_size={1 << (videos.bit_length() - 1)}")
    if cores() < workers:
        words.append(f"--config.data.workers={cores()}")
    return " ".join([*words, f"--config.data.dir={shlex.quote(str(out))}", *settings]), advice


def has_accelerator(devices: Path = Path("/dev")) -> bool:
    """Whether this machine seems to have a GPU or TPU; JAX, which knows it, takes seconds."""
    return any(any(devices.glob(pattern)) for pattern in _ACCELERATORS)


def _count_videos(manifest: dict[str, Any]) -> int:
    """The training videos; 0 if there is no training split."""
    return manifest["splits"].get("train", {}).get("found", 0)


def _has_coarse_frames(manifest: dict[str, Any]) -> bool:
    """Whether most frames of the training split are stored small."""
    sizes = manifest["splits"].get("train", {}).get("height_x_width", {})
    coarse = sum(
        count
        for size, count in sizes.items()
        if size[:1].isdigit() and min(map(int, size.split("x"))) < _COARSE
    )
    return 2 * coarse > sum(sizes.values())
