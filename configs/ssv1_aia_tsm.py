"""TSM with AIA (CinST->STinC) on Something-Something V1: ResNet-50, 8 frames, 224 pixels.

    python train.py --config configs/ssv1_aia_tsm.py --config.init_from=WEIGHTS

WEIGHTS is a folder that convert_torch_weights.py wrote from an ImageNet ResNet-50.

The paper reports 49.2% top-1 and 77.5% top-5 on the validation videos (Tables I and II; 8 frames ×
1 crop × 1 clip). These are the paper's numbers, not measurements of this code. Meant for: the
paper's 4 GPUs (2080 Ti or 3090) with 8 clips each; here any mesh whose devices divide the batch of
32. For other batches `--config.train.batch_size` scales the learning rate with it; on TPUs and
recent GPUs add `--config.model.compute_dtype=bfloat16`.

Data: Something-Something V1, 174 classes, about 86,000 training and 12,000 validation videos (the
paper's rounding). data/ssv1 is written by

    python prepare_data.py ssv1 --raw DIR --out data/ssv1

Frames: 240×320, as the reference code has them for every data set, so `--size 240x320`, the
default.
"""

from ml_collections import ConfigDict

from configs import ssv1_tsm


def get_config() -> ConfigDict:
    config = ssv1_tsm.get_config()
    config.model.attention = "CinST->STinC"
    return config
