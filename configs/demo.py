"""The demo: 8 classes of drawn videos, any network, narrow, on 48 pixels.

    make demo                 make demo-family

do everything: the first trains four networks, the second one of each. One of their runs by hand,
once the videos are drawn and prepared:

    python train.py --config configs/demo.py:msca_kv --workdir runs/demo/msca_kv

The network follows the colon: one of those listed below. Without it a plain TSN is taken. Beside it
may stand a way to train, as in configs/demo.py:tsm,svmix: svmix or modern.

The classes come in pairs that are each other's time reversal, so a plain TSN, which averages over
frames, cannot tell the two apart. The papers have no such experiment. Meant for: 2 CPU cores and a
minute or two a run.
"""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from aia_jax.config_fields import set_field
from configs.narrow import NARROW_METHODS, use_narrow
from configs.networks import NETWORKS, Argument, Network

_CHANNEL_UNIT = {"name": "resnet", "temporal": "tsn", "attention": "C"}
ARGUMENT = Argument(
    default="tsn",
    networks={
        "c": Network("TSN with one channel gate (C)", _CHANNEL_UNIT, NETWORKS["tsn"].kind),
        **NETWORKS,
    },
)
CHOICES = ARGUMENT.describe()

# A vision transformer must learn what a place is before it learns a motion.
_TRANSFORMER = {"optim.warmup_epochs": 1.0, "optim.milestones": (16,), "train.epochs": 20}
# What networks are trained by otherwise than the rest.
_TRAINING: Mapping[str, Mapping[str, Any]] = {
    "cbam3d377": {"optim.milestones": (8,), "train.epochs": 10},  # its gates open late
    **{name: _TRANSFORMER for name, row in NETWORKS.items() if row.fields["name"] == "vit"},
    "vit": {**_TRANSFORMER, "optim.lr": 0.05},  # labels that it cannot tell apart are noise to it
}


def get_config(argument: str = "") -> ConfigDict:
    choice = ARGUMENT.parse(argument)
    config = choice.bare_config()
    config.init_from = "scratch"

    config.data.name = "demo"
    config.data.dir = "runs/demo/data"
    config.data.num_classes = 8
    config.data.crop = 48
    config.data.resize = (52, 52)
    config.data.scales = (1.0, 0.875)
    config.data.workers = 0

    use_narrow(config, width=16, dropout=0.1)

    config.optim.lr = 0.1
    config.optim.lr_batch_size = 16
    # Validations before epoch 4 jump: running statistics trail weights that change fast.
    config.optim.milestones = (4,)

    config.train.batch_size = 16
    config.train.epochs = 6  # of 60 steps with the demo's 960 videos

    for key, value in _TRAINING.get(choice.name, {}).items():
        set_field(config, key, value)
    choice.set_method(config, NARROW_METHODS)
    return config
