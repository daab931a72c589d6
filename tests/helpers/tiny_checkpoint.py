"""Makes the folder of a run that was never trained, with weights of which classes differ."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from aia_jax import config as configs
from aia_jax.checkpoints.manager import Checkpoints
from aia_jax.models import clip_shape, model_from_config
from aia_jax.shards.dataset_info import DATASET_INFO, open_dataset
from aia_jax.shards.fingerprint import describe_data
from aia_jax.shards.reader import open_split
from aia_jax.training.optimizer import make_optimizer
from aia_jax.training.state import TrainState
from tests.helpers.tiny_variables import drawn


def perturbed(variables: Any, seed: int = 0) -> Any:
    """Adds something positive to every weight.

    As a network initialises them, all clips would get nearly the same logits, and a test that
    compares logits would pass for the wrong clip.
    """
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: np.asarray(leaf + np.abs(rng.normal(0, 0.3, leaf.shape)), np.float32),
        variables,
    )


def _describe_data(data: Any) -> dict[str, Any]:
    """What a run would keep of its data; {} if they were never prepared."""
    if not (Path(data.dir) / DATASET_INFO).is_file():
        return {}
    splits = (data.train_split, data.val_split)
    indices = {split: open_split(data.dir, split).index for split in splits}
    return describe_data(open_dataset(data.dir, data.label), indices)


def make_run(
    workdir: Path,
    recipe: Path,
    overrides: Sequence[str],
    class_names: Sequence[str],
    metrics: Mapping[str, Any],
    step: int = 12,
) -> tuple[nn.Module, Any]:
    """Writes `workdir`/checkpoints with one step; returns the network and its variables."""
    config = configs.load(recipe, overrides)
    model = model_from_config(config)
    clip = np.zeros((1, *clip_shape(model, config.data.crop)), np.float32)
    variables = perturbed(drawn(model, clip))  # to compile model.init would take seconds
    head = variables["params"]["head"]
    head["kernel"] = head["kernel"] * np.float32(0.2)  # or one class would have all the probability
    state = TrainState.create(variables, make_optimizer(config.optim, 4, 4)[0])
    state = state.replace(step=jnp.asarray(step, jnp.int32))
    meta = {
        "config": configs.to_json(config),
        "recipe": {"config": configs.name(recipe), "overrides": list(overrides)},
        "class_names": list(class_names),
        "data": _describe_data(config.data),
        "position": step,
        "metrics": dict(metrics),
    }
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        checkpoints.save(step, state, meta)
        checkpoints.wait()
    return model, variables
