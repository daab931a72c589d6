"""Your own videos: any network, 8 frames, 224 pixels.

    python train.py --config configs/own_videos.py --config.init_from=WEIGHTS \\
        --config.data.dir=DATA

WEIGHTS is a folder that convert_torch_weights.py wrote from an ImageNet ResNet-50, or for a vision
transformer from Google's ViT-B_16.npz; or it is the workdir of another run. DATA is what
`prepare_data.py folders` (or `csv`, or `lists`) wrote; it prints this command with DATA filled in,
after "next:". For another network, one of those listed below, name it, as in
configs/own_videos.py:tsm. Beside it may stand a way to train, svmix or modern, as in
configs/own_videos.py:tsm,svmix; docs/training.md says which is for which size of data.

Frames keep their proportions: a portrait clip is not stretched. `prepare_data.py` stores own videos
so (`--size short256`, its default for them).

Schedule and rates are the paper's; H2CN, GST, non-local TSM and vision transformers come with those
of their authors. Meant for: any mesh whose devices divide the batch; on TPUs and recent GPUs add
`--config.model.compute_dtype=bfloat16`.
"""

from ml_collections import ConfigDict

from aia_jax.frame_geometry import short_side
from configs.networks import Argument

ARGUMENT = Argument()
CHOICES = ARGUMENT.describe()


def get_config(argument: str = "") -> ConfigDict:
    config = ARGUMENT.parse(argument).start_config()
    config.data.name = "own videos"
    config.data.sampling = "uniform"  # own clips are often short
    if not short_side(config.data.resize):
        config.data.resize = "short256"
    return config
