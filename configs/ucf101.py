"""UCF101: any network, 8 frames, 224 pixels.

    python train.py --config configs/ucf101.py:aia_tsm,split=1 --config.init_from=WEIGHTS

WEIGHTS is a folder that convert_torch_weights.py wrote from an ImageNet ResNet-50, or for a vision
transformer from Google's ViT-B_16.npz.

The network follows the colon: one of those listed below. The number of the official split may
follow it: 1, 2 or 3. Without them aia_tsm and split 1 are taken. A way to train may stand beside
them, as in configs/ucf101.py:tsm,svmix,split=1: svmix or modern.

The paper has no numbers on this data set. The one below is SV-Mix's, of 2 clips with 3 crops of 256
pixels (`eval.py --views 2x3`); TSM without it has 85.2% there. The README does not say on which
split. They are not measurements of this code. The data set is small: good for a first run of one's
own.

Meant for: the paper's 4 GPUs (2080 Ti or 3090) with 8 clips each; here any mesh whose devices
divide the batch. It is 32; H2CN, GST, non-local TSM and vision transformers come with the batch and
schedule of their authors. `--config.train.batch_size` scales the learning rate with it; on TPUs and
recent GPUs add `--config.model.compute_dtype=bfloat16`.

Data: 101 classes; split 1 has 9,537 training and 3,783 test videos. The test videos are the split
"validation" of data/ucf101_split1 (…2, …3), which this writes:

    python prepare_data.py ucf101 --split 1 --raw DIR --out data/ucf101_split1

Frames: 240×320 pixels, as in the recipe's other data sets, so `--size 240x320`, the default.
"""

from collections.abc import Mapping

from ml_collections import ConfigDict

from configs.methods import SVMIX_UCF101
from configs.networks import Argument, Option
from configs.paper import Reported

# Videos for training and testing, by split.
_EXPECTED = {"1": (9_537, 3_783), "2": (9_586, 3_734), "3": (9_624, 3_696)}
PAPER: Mapping[str, Reported] = {
    "tsm,svmix,split=1": Reported(
        88.4,
        None,
        source="SV-Mix's README",
        crops=3,
        clips=2,
        split="a split that it does not name",
    ),
}
_METHODS = {"svmix": SVMIX_UCF101}
ARGUMENT = Argument(options={"split": Option(tuple(_EXPECTED), "official split")})
CHOICES = ARGUMENT.describe(PAPER)


def get_config(argument: str = "") -> ConfigDict:
    choice = ARGUMENT.parse(argument)
    split = choice.options["split"]
    config = choice.start_config(PAPER, methods=_METHODS)
    config.data.name = f"ucf101_split{split}"
    config.data.dir = f"data/ucf101_split{split}"
    config.data.num_classes = 101
    config.data.expected.train, config.data.expected.validation = _EXPECTED[split]
    return config
