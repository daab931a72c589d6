"""Diving48 with the cleaned labels (V2): any network, 8 frames, 224 pixels.

    python train.py --config configs/diving48.py:aia_tsm --config.init_from=WEIGHTS

WEIGHTS is a folder that convert_torch_weights.py wrote from an ImageNet ResNet-50, or for a vision
transformer from Google's ViT-B_16.npz.

The network follows the colon: one of those listed below. Without it aia_tsm is taken. Beside it may
stand a way to train, as in configs/diving48.py:tsm,svmix: svmix or modern.

The numbers below are what the paper, or the source that is named, reports on the official test
videos; they are not measurements of this code. H2CN's is of 16 segments, so that is what its recipe
takes. The paper trained C3D and GST itself. SV-Mix's README has TSM without it at 77.6%.

Meant for: the paper's 4 GPUs (2080 Ti or 3090) with 8 clips each; here any mesh whose devices
divide the batch. It is 32; H2CN, GST, non-local TSM and vision transformers come with the batch and
schedule of their authors. `--config.train.batch_size` scales the learning rate with it; on TPUs and
recent GPUs add `--config.model.compute_dtype=bfloat16`.

Data: 48 classes, about 16,000 training and 2,000 test videos (the paper's rounding). The test
videos are the split "validation" of data/diving48, which this writes:

    python prepare_data.py diving48 --raw DIR --out data/diving48

Frames: 240×320 pixels, as the reference code has them for every data set, so `--size 240x320`, the
default. The paper writes short side 256.
"""

from collections.abc import Mapping

from ml_collections import ConfigDict

from configs.methods import SVMIX_SMALL
from configs.networks import Argument
from configs.paper import Reported

PAPER: Mapping[str, Reported] = {
    "tsn": Reported(72.4, 96.8, "III", split="split V2"),
    "tsm": Reported(77.6, 97.7, "III", split="split V2"),
    "aia_tsn": Reported(79.3, 97.5, "III", split="split V2"),
    "aia_tsm": Reported(79.4, 97.5, "III", split="split V2"),
    "c3d": Reported(73.4, 96.0, "III", split="split V2"),
    "gst": Reported(74.2, 94.5, "III", split="split V2"),
    "h2cn": Reported(87.0, None, source="H2CN's README", frames=16, crops=1, clips=1),
    "tsm,svmix": Reported(80.2, None, source="SV-Mix's README", crops=1, clips=1),
}
_METHODS = {"svmix": SVMIX_SMALL}
ARGUMENT = Argument()
CHOICES = ARGUMENT.describe(PAPER)


def get_config(argument: str = "") -> ConfigDict:
    config = ARGUMENT.parse(argument).start_config(PAPER, methods=_METHODS)
    config.data.name = "diving48"
    config.data.dir = "data/diving48"
    config.data.num_classes = 48
    return config
