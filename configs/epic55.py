"""EPIC-KITCHENS-55, verbs or nouns: any network, 8 frames, 224 pixels.

    python train.py --config configs/epic55.py:aia_tsm,label=noun --config.init_from=WEIGHTS

WEIGHTS is a folder that convert_torch_weights.py wrote from an ImageNet ResNet-50, or for a vision
transformer from Google's ViT-B_16.npz.

The network follows the colon: one of those listed below. What is classified may follow it: verbs or
nouns. Without them aia_tsm and verbs are taken. A way to train may stand beside them, as in
configs/epic55.py:tsm,modern,label=verb: svmix or modern.

The numbers below are what the paper reports, on a split of its own that is not published; they are
not measurements of this code. The paper trained C3D and GST itself.

Meant for: the paper's 4 GPUs (2080 Ti or 3090) with 8 clips each; here any mesh whose devices
divide the batch. It is 32; H2CN, GST, non-local TSM and vision transformers come with the batch and
schedule of their authors. `--config.train.batch_size` scales the learning rate with it; on TPUs and
recent GPUs add `--config.model.compute_dtype=bfloat16`.

Data: 125 verb and 352 noun classes, some of which never occur; 28,472 labelled segments. The split
is this project's: participants P01 to P25 train, P26 to P31 validate. One folder has verbs and
nouns, data/epic55, which this writes:

    python prepare_data.py epic55 --raw DIR --out data/epic55

Frames: 240×320 pixels, as the reference code has them for every data set, so `--size 240x320`, the
default. The paper writes short side 256.
"""

from collections.abc import Mapping

from ml_collections import ConfigDict

from configs.networks import Argument, Option
from configs.paper import Reported

_NUM_CLASSES = {"verb": 125, "noun": 352}
# Table V: top-1 for verbs and for nouns.
_TABLE_V = {
    "tsn": (37.4, 23.1),
    "tsm": (48.2, 22.9),
    "aia_tsn": (49.5, 23.5),
    "aia_tsm": (50.2, 24.3),
    "c3d": (45.2, 21.5),
    "gst": (46.4, 21.1),
}
PAPER: Mapping[str, Reported] = {
    f"{network},label={label}": Reported(
        top1, None, "V", split="a split of the paper's own, not published"
    )
    for network, row in _TABLE_V.items()
    for label, top1 in zip(_NUM_CLASSES, row, strict=True)
}
ARGUMENT = Argument(options={"label": Option(tuple(_NUM_CLASSES), "what is classified")})
CHOICES = ARGUMENT.describe(PAPER)


def get_config(argument: str = "") -> ConfigDict:
    choice = ARGUMENT.parse(argument)
    label = choice.options["label"]
    config = choice.start_config(PAPER)
    config.data.name = "epic55"
    config.data.dir = "data/epic55"
    config.data.label = label
    config.data.num_classes = _NUM_CLASSES[label]
    return config
