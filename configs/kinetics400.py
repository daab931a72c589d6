"""Kinetics-400: any network, 8 frames, 224 pixels.

    python train.py --config configs/kinetics400.py:aia_tsm --config.init_from=WEIGHTS

WEIGHTS is a folder that convert_torch_weights.py wrote from an ImageNet ResNet-50, or for a vision
transformer from Google's ViT-B_16.npz.

The network follows the colon: one of those listed below. Without it aia_tsm is taken. Beside it may
stand a way to train, as in configs/kinetics400.py:vit,modern: svmix or modern.

The paper has no numbers on this data set; those below are of the sources that are named, and not
measurements of this code. They are of 10 clips with 3 crops each. MSCA's paper compares itself with
its own TokShift and ViT: MSCA-KV is 0.1 and 1.2 points above them.

Meant for: the paper's 4 GPUs (2080 Ti or 3090) with 8 clips each; here any mesh whose devices
divide the batch. It is 32; H2CN, GST, non-local TSM and vision transformers come with the batch and
schedule of their authors. `--config.train.batch_size` scales the learning rate with it; on TPUs and
recent GPUs add `--config.model.compute_dtype=bfloat16`.

Data: 400 classes, as many of its clips as are to be had: the manifest has the counts.
data/kinetics400 is written by

    python prepare_data.py kinetics400 --raw DIR --out data/kinetics400 --splits train validation

Frames: 240×320 pixels, as in the recipe's other data sets, so `--size 240x320`, the default.
"""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from configs.networks import NETWORKS, Argument
from configs.paper import Reported

_H2CN, _TOKSHIFT = "H2CN's README", "TokShift's README"
PAPER: Mapping[str, Reported] = {
    "tsm_nl": Reported(75.6, None, source="TSM's README", crops=3, clips=10),
    "h2cn": Reported(76.9, 93.0, source=_H2CN, crops=3, clips=10).beside(
        Reported(77.9, 93.3, source=_H2CN, frames=16, crops=3, clips=10)
    ),
    "vit": Reported(76.02, None, source=_TOKSHIFT, crops=3, clips=10),
    "tokshift": Reported(77.28, None, source=_TOKSHIFT, crops=3, clips=10).beside(
        Reported(78.18, None, source=_TOKSHIFT, frames=16, crops=3, clips=10)
    ),
}
# Frames with a stride, as the sources of these numbers take them. Non-local TSM: I3D's window of 64
# frames, and twice as many epochs as on other data sets (Lin et al. 2019, 5.1).
_RECIPES: Mapping[str, Mapping[str, Any]] = {
    "tsm_nl": {"data.sampling": "dense8", "optim.milestones": (40, 80), "train.epochs": 100},
    **{
        name: {"data.sampling": "dense32"}
        for name, network in NETWORKS.items()
        if network.fields["name"] == "vit"
    },
}
ARGUMENT = Argument()
CHOICES = ARGUMENT.describe(PAPER)


def get_config(argument: str = "") -> ConfigDict:
    choice = ARGUMENT.parse(argument)
    config = choice.start_config(PAPER, _RECIPES)
    # The network's numbers are of these frames, whichever way it is trained.
    config.data.sampling = _RECIPES.get(choice.name, {}).get("data.sampling", config.data.sampling)
    config.data.name = "kinetics400"
    config.data.dir = "data/kinetics400"
    config.data.num_classes = 400
    return config
