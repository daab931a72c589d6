"""The demo's network and recipe: a 3-block bottleneck net of width 16 on 8 classes of drawn videos,
48 pixels.

    make demo

does everything. One of its runs by hand, once the videos are drawn and prepared:

    python train.py --config configs/demo.py --config.model.attention='CinST->STinC' --workdir
    runs/demo/aia

The classes come in pairs that are each other's time reversal, so a plain TSN, which averages over
frames, cannot tell the two apart. The paper has no such experiment. Meant for: 2 CPU cores and a
minute or two a run.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    config = base.get_config()
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
    config.optim.milestones = (
        4,
    )  # validations before it jump: running statistics trail weights that change fast

    config.train.batch_size = 16
    config.train.epochs = 6  # of 60 steps with the demo's 960 videos
    return config
