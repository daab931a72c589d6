"""TSM with AIA (CinST->STinC) on your own videos: ResNet-50, 8 frames, 224 pixels.

    python train.py --config configs/own_videos.py --config.init_from=WEIGHTS --config.data.dir=DATA
    --config.data.num_classes=N

WEIGHTS is a folder that convert_torch_weights.py wrote from an ImageNet ResNet-50, or the workdir
of another run. DATA is what `prepare_data.py folders` (or `csv`, or `lists`) wrote; the line "next:
…" that it prints is this command with DATA and N filled in. For a plain TSM add
`--config.model.attention=none`.

Schedule and rates are the paper's. Meant for: any mesh whose devices divide the batch of 32; on
TPUs and recent GPUs add `--config.model.compute_dtype=bfloat16`.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.data.name = "own videos"
    config.model.temporal = "tsm"
    config.model.attention = "CinST->STinC"
    return config
