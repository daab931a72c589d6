"""Kinetics-400: ResNet-50, 8 frames, 224 pixels.

    python train.py --config configs/kinetics400.py:aia_tsm --config.init_from=WEIGHTS

WEIGHTS is a folder that convert_torch_weights.py wrote from an ImageNet ResNet-50.

The network follows the colon: one of those listed below. Without it aia_tsm is taken.

The paper has no numbers on this data set.

Meant for: the paper's 4 GPUs (2080 Ti or 3090) with 8 clips each; here any mesh whose devices
divide the batch of 32. For other batches `--config.train.batch_size` scales the learning rate with
it; on TPUs and recent GPUs add `--config.model.compute_dtype=bfloat16`.

Data: 400 classes, as many of its clips as are to be had: the manifest has the counts.
data/kinetics400 is written by

    python prepare_data.py kinetics400 --raw DIR --out data/kinetics400 --splits train validation

Frames: 240×320 pixels, as in the recipe's other data sets, so `--size 240x320`, the default.
"""

from collections.abc import Mapping

from ml_collections import ConfigDict

from configs.networks import Argument
from configs.paper import Reported

PAPER: Mapping[str, Reported] = {}
ARGUMENT = Argument()
CHOICES = ARGUMENT.describe(PAPER)


def get_config(argument: str = "") -> ConfigDict:
    config = ARGUMENT.parse(argument).start_config(PAPER)
    config.data.name = "kinetics400"
    config.data.dir = "data/kinetics400"
    config.data.num_classes = 400
    return config
