"""Narrow networks for small frames, which learn from the first number on within minutes on CPUs."""

from collections.abc import Mapping

from ml_collections import ConfigDict

from configs.methods import Settings

# What the methods of configs/methods.py set for such networks. Schedule and rates of convolutional
# ones stay the recipe's.
NARROW_METHODS: Mapping[str, Settings] = {
    "svmix": Settings(
        every={
            "train.method": "svmix",
            "train.label_smoothing": 0.1,
            # A run of some hundred steps: a slower teacher would still be the first weights.
            "svmix.ema_decay": 0.98,
        }
    ),
    "modern": Settings(
        every={"data.randaugment": 2, "optim.schedule": "cosine", "optim.milestones": ()},
        transformers={
            "optim.name": "adamw",
            "optim.lr": 2e-3,
            "optim.weight_decay": 0.05,
            "train.label_smoothing": 0.1,
            "train.mixup": 0.8,
            "train.cutmix": 1.0,
            "train.mix_prob": 0.5,
        },
    ),
}


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
