"""Something-Something V1: ResNet-50, 8 frames, 224 pixels.

    python train.py --config configs/ssv1.py:aia_tsm --config.init_from=WEIGHTS

WEIGHTS is a folder that convert_torch_weights.py wrote from an ImageNet ResNet-50.

The network follows the colon: one of those listed below. Without it aia_tsm is taken.

The numbers below are what the paper reports on the validation videos, with one centre crop of one
clip, as `eval.py` tests; they are not measurements of this code. For TSM the paper's Table II also
has 47.3% top-1 and 76.2% top-5, with 2 clips.

Meant for: the paper's 4 GPUs (2080 Ti or 3090) with 8 clips each; here any mesh whose devices
divide the batch of 32. For other batches `--config.train.batch_size` scales the learning rate with
it; on TPUs and recent GPUs add `--config.model.compute_dtype=bfloat16`.

Data: 174 classes, about 86,000 training and 12,000 validation videos (the paper's rounding).
data/ssv1 is written by

    python prepare_data.py ssv1 --raw DIR --out data/ssv1

Frames: 240×320 pixels, as the reference code and the paper have them, so `--size 240x320`, the
default.
"""

from collections.abc import Mapping

from ml_collections import ConfigDict

from configs.networks import Argument
from configs.paper import Reported

PAPER: Mapping[str, Reported] = {
    "tsn": Reported(19.7, 46.6, "I and II", crops=1, clips=1),
    "tsm": Reported(45.6, 74.2, "I", crops=1, clips=1),
    "aia_tsn": Reported(48.5, 77.2, "I and II", crops=1, clips=1),
    "aia_tsm": Reported(49.2, 77.5, "I and II", crops=1, clips=1),
}
ARGUMENT = Argument()
CHOICES = ARGUMENT.describe(PAPER)


def get_config(argument: str = "") -> ConfigDict:
    config = ARGUMENT.parse(argument).start_config(PAPER)
    config.data.name = "ssv1"
    config.data.dir = "data/ssv1"
    config.data.num_classes = 174
    return config
