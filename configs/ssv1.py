"""Something-Something V1: any network, 8 frames, 224 pixels.

    python train.py --config configs/ssv1.py:aia_tsm --config.init_from=WEIGHTS

WEIGHTS is a folder that convert_torch_weights.py wrote from an ImageNet ResNet-50, or for a vision
transformer from Google's ViT-B_16.npz.

The network follows the colon: one of those listed below. Without it aia_tsm is taken. Beside it may
stand a way to train, as in configs/ssv1.py:tsm,svmix: svmix or modern.

The numbers below are what the paper, or the source that is named, reports on the validation videos,
with one centre crop of one clip, as `eval.py` tests; they are not measurements of this code. For
TSM the paper's Table II also has 47.3% top-1 and 76.2% top-5, with 2 clips. SV-Mix's README has TSM
without it at 45.5%. mmaction2's README has TSM at 45.58%, 47.10% mirrored, 47.16% with RandAugment;
it says 47.85% for both together, with its own steps of the learning rate instead of a cosine.

Meant for: the paper's 4 GPUs (2080 Ti or 3090) with 8 clips each; here any mesh whose devices
divide the batch. It is 32; H2CN, GST, non-local TSM and vision transformers come with the batch and
schedule of their authors. `--config.train.batch_size` scales the learning rate with it; on TPUs and
recent GPUs add `--config.model.compute_dtype=bfloat16`.

Data: 174 classes, about 86,000 training and 12,000 validation videos (the paper's rounding).
data/ssv1 is written by

    python prepare_data.py ssv1 --raw DIR --out data/ssv1

Frames: 240×320 pixels, as the reference code and the paper have them, so `--size 240x320`, the
default.
"""

from collections.abc import Mapping

from ml_collections import ConfigDict

from configs.methods import SVMIX_SOMETHING
from configs.networks import Argument
from configs.paper import Reported

_GST, _H2CN = "GST's README", "H2CN's README"
_SVMIX, _MMACTION2 = "SV-Mix's README", "mmaction2's README"
PAPER: Mapping[str, Reported] = {
    "tsn": Reported(19.7, 46.6, "I and II", crops=1, clips=1),
    "tsm": Reported(45.6, 74.2, "I", crops=1, clips=1),
    "aia_tsn": Reported(48.5, 77.2, "I and II", crops=1, clips=1),
    "aia_tsm": Reported(49.2, 77.5, "I and II", crops=1, clips=1),
    "se3d": Reported(22.0, 49.9, "I", crops=1, clips=1),
    "ge3d_g": Reported(22.3, 51.1, "I", crops=1, clips=1),
    "ge3d_dw133": Reported(19.4, 46.7, "I", crops=1, clips=1),
    "ge3d_dw333": Reported(44.2, 72.6, "I", crops=1, clips=1),
    "s3d_g": Reported(28.9, 59.3, "I", crops=1, clips=1),
    "cbam3d177": Reported(28.1, 57.6, "I", crops=1, clips=1),
    "cbam3d377": Reported(43.4, 72.2, "I", crops=1, clips=1),
    "h2cn": Reported(53.6, 81.4, source=_H2CN, crops=1, clips=1).beside(
        Reported(55.0, 82.4, source=_H2CN, frames=16, crops=1, clips=1)
    ),
    "gst": Reported(47.0, None, source=_GST, crops=1, clips=1).beside(
        Reported(48.6, None, source=_GST, frames=16, crops=1, clips=1)
    ),
    "gst_large": Reported(47.7, None, source=_GST, crops=1, clips=1),
    "tsm,svmix": Reported(47.2, None, source=_SVMIX, crops=1, clips=1),
    "tsm,modern": Reported(47.85, 76.8, source=_MMACTION2, crops=1, clips=1),
}
_METHODS = {"svmix": SVMIX_SOMETHING}
ARGUMENT = Argument()
CHOICES = ARGUMENT.describe(PAPER)


def get_config(argument: str = "") -> ConfigDict:
    config = ARGUMENT.parse(argument).start_config(PAPER, methods=_METHODS)
    config.data.name = "ssv1"
    config.data.dir = "data/ssv1"
    config.data.num_classes = 174
    return config
