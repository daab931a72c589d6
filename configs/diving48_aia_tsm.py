"""TSM with AIA (CinST->STinC) on Diving48 (V2): ResNet-50, 8 frames, 224 pixels.

    python train.py --config configs/diving48_aia_tsm.py --config.init_from=WEIGHTS

WEIGHTS is a folder that convert_torch_weights.py wrote from an ImageNet ResNet-50.

The paper reports 79.4% top-1 and 97.5% top-5 on the official test videos (Table III; 8 frames).
These are the paper's numbers, not measurements of this code.
Meant for: the paper's 4 GPUs (2080 Ti or 3090) with 8 clips each; here any mesh whose devices
divide the batch of 32. For other batches `--config.train.batch_size` scales the learning rate with
it; on TPUs and recent GPUs add `--config.model.compute_dtype=bfloat16`.

Data: Diving48 with the cleaned labels (V2), 48 classes, about 16,000 training and 2,000 test videos
(the paper's rounding). The test videos are the split "validation" of data/diving48, which this
writes:

    python prepare_data.py diving48 --raw DIR --out data/diving48

Frames: 240×320, as the reference code has them for every data set, so `--size 240x320`, the
default. The paper writes short side 256.
"""

from ml_collections import ConfigDict

from configs import diving48_tsm


def get_config() -> ConfigDict:
    config = diving48_tsm.get_config()
    config.model.attention = "CinST->STinC"
    return config
