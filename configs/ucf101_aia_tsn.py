"""TSN with AIA (CinST->STinC) on UCF101: ResNet-50, 8 frames, 224 pixels.

    python train.py --config configs/ucf101_aia_tsn.py:1 --config.init_from=WEIGHTS

WEIGHTS is a folder that convert_torch_weights.py wrote from an ImageNet ResNet-50. The number after
the colon is the split: 1, 2 or 3.

The paper has no numbers on this data set. It is small: good for a first run of one's own.
Meant for: the paper's 4 GPUs (2080 Ti or 3090) with 8 clips each; here any mesh whose devices
divide the batch of 32. For other batches `--config.train.batch_size` scales the learning rate with
it; on TPUs and recent GPUs add `--config.model.compute_dtype=bfloat16`.

Data: UCF101, 101 classes; split 1 has 9,537 training and 3,783 test videos. The test videos are the
split "validation" of data/ucf101_split1 (…2, …3), which this writes:

    python prepare_data.py ucf101 --split 1 --raw DIR --out data/ucf101_split1

Frames: 240×320, as in the recipe's other data sets, so `--size 240x320`, the default.
"""

from ml_collections import ConfigDict

from configs import ucf101_tsn


def get_config(split: str = "1") -> ConfigDict:
    config = ucf101_tsn.get_config(split)
    config.model.attention = "CinST->STinC"
    return config
