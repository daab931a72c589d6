"""TSM on Something-Something V2: ResNet-50, 8 frames, 224 pixels.

    python train.py --config configs/ssv2_tsm.py --config.init_from=WEIGHTS

WEIGHTS is a folder that convert_torch_weights.py wrote from an ImageNet ResNet-50.

The paper reports 61.7% top-1 and 87.4% top-5 on the validation videos (Table II; 8 frames × 1 crop
× 2 clips). These are the paper's numbers, not measurements of this code. It has no number for 1
clip, which `eval.py` uses. Meant for: the paper's 4 GPUs (2080 Ti or 3090) with 8 clips each; here
any mesh whose devices divide the batch of 32. For other batches `--config.train.batch_size` scales
the learning rate with it; on TPUs and recent GPUs add `--config.model.compute_dtype=bfloat16`.

Data: Something-Something V2, 174 classes, 168,913 training and 24,777 validation videos. data/ssv2
is written by

    python prepare_data.py ssv2 --raw DIR --out data/ssv2 --splits train validation

Frames: 240×320, as the reference code has them for every data set, so `--size 240x320`, the
default.
"""

from ml_collections import ConfigDict

from configs import ssv2_tsn


def get_config() -> ConfigDict:
    config = ssv2_tsn.get_config()
    config.model.temporal = "tsm"
    return config
