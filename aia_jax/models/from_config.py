"""The network that a config describes."""

from typing import Any

import jax.numpy as jnp

from aia_jax.models.resnet.modeling import VideoNet, create_model


def model_from_config(config: Any) -> VideoNet:
    """Builds the network of `config.model` for the classes and frames of `config.data`
    (configs/base.py explains the fields).
    """
    model = config.model
    return create_model(
        config.data.num_classes,
        config.data.num_frames,
        depth=model.depth,
        temporal=model.temporal,
        attention=model.attention,
        dropout=model.dropout,
        dtype=jnp.dtype(model.compute_dtype),
        stem=model.stem,
        width=model.width,
        stage_sizes=tuple(model.stage_sizes),
        fold_div=model.fold_div,
    )
