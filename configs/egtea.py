"""EGTEA Gaze+: any network, 8 frames, 224 pixels.

    python train.py --config configs/egtea.py:aia_tsm,split=1 --config.init_from=WEIGHTS

WEIGHTS is a folder that convert_torch_weights.py wrote from an ImageNet ResNet-50, or for a vision
transformer from Google's ViT-B_16.npz.

The network follows the colon: one of those listed below. The number of the official split may
follow it: 1, 2 or 3. Without them aia_tsm and split 1 are taken. A way to train may stand beside
them, as in configs/egtea.py:tsm,svmix,split=1: svmix or modern.

The numbers below are what the paper, or the source that is named, reports on the test clips of each
split; they are not measurements of this code. The paper trained C3D and GST itself. SV-Mix's README
has TSM without it at 63.5% on split 1.

Meant for: the paper's 4 GPUs (2080 Ti or 3090) with 8 clips each; here any mesh whose devices
divide the batch. It is 32; H2CN, GST, non-local TSM and vision transformers come with the batch and
schedule of their authors. `--config.train.batch_size` scales the learning rate with it; on TPUs and
recent GPUs add `--config.model.compute_dtype=bfloat16`.

Data: 106 classes; split 1 has 8,299 training and 2,022 test clips. The test clips are the split
"validation" of data/egtea_split1 (…2, …3), which this writes:

    python prepare_data.py egtea --split 1 --raw DIR --out data/egtea_split1

Frames: 240×320 pixels, as the reference code has them for every data set, so `--size 240x320`, the
default. The paper writes short side 256.
"""

from collections.abc import Mapping

from ml_collections import ConfigDict

from configs.methods import SVMIX_SMALL
from configs.networks import Argument, Option
from configs.paper import Reported

# Top-1 on splits 1, 2 and 3.
_TABLE_IV = {
    "tsn": (61.6, 58.5, 55.2),
    "tsm": (63.5, 62.8, 59.5),
    "aia_tsn": (63.7, 62.1, 61.5),
    "aia_tsm": (64.7, 63.3, 62.2),
    "c3d": (62.1, 59.2, 57.0),
    "gst": (63.3, 61.2, 59.2),
}
_H2CN = Reported(66.2, None, source="H2CN's README", crops=1, clips=1)
PAPER: Mapping[str, Reported] = {
    **{
        f"{network},split={split}": Reported(top1, None, "IV", split=f"split {split}")
        for network, row in _TABLE_IV.items()
        for split, top1 in enumerate(row, start=1)
    },
    **{
        f"h2cn,split={split}": _H2CN._replace(top1=top1, split=f"split {split}")
        for split, top1 in enumerate((66.2, 63.9, 60.5), start=1)
    },
    "tsm,svmix,split=1": Reported(65.5, None, source="SV-Mix's README", crops=1, clips=1),
}
_METHODS = {"svmix": SVMIX_SMALL}
ARGUMENT = Argument(options={"split": Option(("1", "2", "3"), "official split")})
CHOICES = ARGUMENT.describe(PAPER)


def get_config(argument: str = "") -> ConfigDict:
    choice = ARGUMENT.parse(argument)
    split = choice.options["split"]
    config = choice.start_config(PAPER, methods=_METHODS)
    config.data.name = f"egtea_split{split}"
    config.data.dir = f"data/egtea_split{split}"
    config.data.num_classes = 106
    if split == "1":
        config.data.expected.train = 8_299
        config.data.expected.validation = 2_022
    return config
