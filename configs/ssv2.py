"""Something-Something V2: any network, 8 frames, 224 pixels.

    python train.py --config configs/ssv2.py:aia_tsm --config.init_from=WEIGHTS

WEIGHTS is a folder that convert_torch_weights.py wrote from an ImageNet ResNet-50, or for a vision
transformer from Google's ViT-B_16.npz.

The network follows the colon: one of those listed below. Without it aia_tsm is taken. Beside it may
stand a way to train, as in configs/ssv2.py:tsm,svmix: svmix or modern.

The numbers below are what the paper, or the source that is named, reports on the validation videos;
they are not measurements of this code. For TSM the paper has no number with 1 clip, as `eval.py`
tests; `--config.eval.protocol=twice` tests with 2. SV-Mix's README has TSM without it at 59.3%.

Meant for: the paper's 4 GPUs (2080 Ti or 3090) with 8 clips each; here any mesh whose devices
divide the batch. It is 32; H2CN, GST, non-local TSM and vision transformers come with the batch and
schedule of their authors. `--config.train.batch_size` scales the learning rate with it; on TPUs and
recent GPUs add `--config.model.compute_dtype=bfloat16`.

Data: 174 classes, 168,913 training and 24,777 validation videos. data/ssv2 is written by

    python prepare_data.py ssv2 --raw DIR --out data/ssv2 --splits train validation

Frames: 240×320 pixels, as the reference code and the paper have them, so `--size 240x320`, the
default.
"""

from collections.abc import Mapping

from ml_collections import ConfigDict

from configs.methods import SVMIX_SOMETHING
from configs.networks import Argument
from configs.paper import Reported

_GST, _H2CN = "GST's README", "H2CN's README"
PAPER: Mapping[str, Reported] = {
    "tsn": Reported(30.0, 60.5, "II", crops=1, clips=1),
    "tsm": Reported(61.7, 87.4, "II", crops=1, clips=2),
    "aia_tsn": Reported(60.3, 86.4, "II", crops=1, clips=1),
    "aia_tsm": Reported(61.7, 87.2, "II", crops=1, clips=1),
    "h2cn": Reported(65.2, 89.7, source=_H2CN, crops=1, clips=1).beside(
        Reported(66.4, 90.1, source=_H2CN, frames=16, crops=1, clips=1)
    ),
    "gst": Reported(61.6, None, source=_GST, crops=1, clips=1).beside(
        Reported(62.6, None, source=_GST, frames=16, crops=1, clips=1)
    ),
    "gst_large": Reported(62.0, None, source=_GST, crops=1, clips=1),
    "tsm,svmix": Reported(60.3, None, source="SV-Mix's README", crops=1, clips=1),
}
_METHODS = {"svmix": SVMIX_SOMETHING}
ARGUMENT = Argument()
CHOICES = ARGUMENT.describe(PAPER)


def get_config(argument: str = "") -> ConfigDict:
    config = ARGUMENT.parse(argument).start_config(PAPER, methods=_METHODS)
    config.data.name = "ssv2"
    config.data.dir = "data/ssv2"
    config.data.num_classes = 174
    config.data.expected.train = 168_913
    config.data.expected.validation = 24_777
    return config
