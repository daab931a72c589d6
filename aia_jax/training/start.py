"""The variables a run begins with."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from aia_jax.errors import UserError
from aia_jax.models import VideoNet
from aia_jax.weight_files import load_folder
from aia_jax.weights import load_own
from aia_jax.weights_report import Report

SCRATCH = "scratch"


def check_init_from(config: ConfigDict, config_path: str) -> None:
    """Checks that the run knows what to start from, before anything is loaded.

    Raises:
        UserError: `init_from` is empty or names no folder.
    """
    if not config.init_from:
        raise UserError(
            f"config key init_from is empty, and the recipe starts from ImageNet weights: convert a ResNet-{config.model.depth} with "
            f"`python convert_torch_weights.py --config {config_path} --torch FILE --out weights/imagenet` and add "
            "--config.init_from=weights/imagenet, or add --config.init_from=scratch and mean it"
        )
    if config.init_from != SCRATCH and not Path(config.init_from).is_dir():
        raise UserError(f"config key init_from: there is no folder {config.init_from}; make one with convert_torch_weights.py")


def initial_variables(config: ConfigDict, model: VideoNet, key: jax.Array) -> tuple[Any, Report | None]:
    """Fresh variables, with what `init_from` holds in their place.

    Returns:
        {"params", "batch_stats"}, and what was loaded, fresh and dropped; None for a start from scratch.
    """
    clip = jnp.zeros((1, 1, config.data.crop, config.data.crop, 3))  # no variable depends on T, and one frame is made fast
    variables = jax.jit(model.init)(key, clip)
    if config.init_from == SCRATCH:
        return variables, None
    source, _ = load_folder(Path(config.init_from))
    return load_own(source, variables)
