"""Narrow networks for small frames, which learn from the first number on within minutes on CPUs."""

from ml_collections import ConfigDict


def use_narrow(config: ConfigDict, width: int, dropout: float) -> None:
    """Makes the network of a config narrow and shallow.

    A network of stages gets three bottlenecks. A vision transformer gets as many channels as their
    first stage returns, three layers of four heads, and positions for frames of `data.crop`.

    Args:
        config: with its network and `data.crop`.
        width: channels of the first stage's 3x3 convolutions.
        dropout: before the head.
    """
    model = config.model
    model.dropout = dropout
    if "stage_sizes" in model:
        model.width = width
        model.stage_sizes = (1, 1, 1)
    else:
        model.size = ""
        model.width, model.layers, model.heads, model.mlp_dim = 4 * width, 3, 4, 8 * width
        model.image_size = (config.data.crop, config.data.crop)
        config.optim.clip_norm = 1.0  # without BatchNorm gradients jump
