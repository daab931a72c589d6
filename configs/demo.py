"""The demo: 8 classes of drawn videos, 3-block bottleneck nets of width 16, 48 pixels.

    make demo

does everything. One of its runs by hand, once the videos are drawn and prepared:

    python train.py --config configs/demo.py:aia_tsn --workdir runs/demo/aia

The network follows the colon: one of those listed below. Without it a plain TSN is taken.
The classes come in pairs that are each other's time reversal, so a plain TSN, which averages over
frames, cannot tell the two apart. The paper has no such experiment. Meant for: 2 CPU cores and a
minute or two a run.
"""

from ml_collections import ConfigDict

from configs.networks import NETWORKS, Argument, Network

_CHANNEL_UNIT = {"name": "resnet", "temporal": "tsn", "attention": "C"}
ARGUMENT = Argument(
    default="tsn",
    networks={**NETWORKS, "c": Network("TSN with one channel gate (C)", _CHANNEL_UNIT)},
)
CHOICES = ARGUMENT.describe()


def get_config(argument: str = "") -> ConfigDict:
    config = ARGUMENT.parse(argument).start_config()
    config.init_from = "scratch"

    config.data.name = "demo"
    config.data.dir = "runs/demo/data"
    config.data.num_classes = 8
    config.data.crop = 48
    config.data.resize = (52, 52)
    config.data.scales = (1.0, 0.875)
    config.data.workers = 0

    config.model.width = 16
    config.model.stage_sizes = (1, 1, 1)
    config.model.dropout = 0.1

    config.optim.lr = 0.1
    config.optim.lr_batch_size = 16
    # Validations before epoch 4 jump: running statistics trail weights that change fast.
    config.optim.milestones = (4,)

    config.train.batch_size = 16
    config.train.epochs = 6  # of 60 steps with the demo's 960 videos
    return config
