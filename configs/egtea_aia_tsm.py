"""TSM with AIA (CinST->STinC) on EGTEA Gaze+: ResNet-50, 8 frames, 224 pixels.

    python train.py --config configs/egtea_aia_tsm.py:1 --config.init_from=WEIGHTS

WEIGHTS is a folder that convert_torch_weights.py wrote from an ImageNet ResNet-50. The number after
the colon is the split: 1, 2 or 3.

The paper reports 64.7%, 63.3% and 62.2% top-1 on the test clips of splits 1, 2 and 3 (Table IV; 8
frames). These are the paper's numbers, not measurements of this code. Meant for: the paper's 4 GPUs
(2080 Ti or 3090) with 8 clips each; here any mesh whose devices divide the batch of 32. For other
batches `--config.train.batch_size` scales the learning rate with it; on TPUs and recent GPUs add
`--config.model.compute_dtype=bfloat16`.

Data: EGTEA Gaze+, 106 classes; split 1 has 8,299 training and 2,022 test clips. The test clips are
the split "validation" of data/egtea_split1 (…2, …3), which this writes:

    python prepare_data.py egtea --split 1 --raw DIR --out data/egtea_split1

Frames: 240×320, as the reference code has them for every data set, so `--size 240x320`, the
default. The paper writes short side 256.
"""

from ml_collections import ConfigDict

from configs import egtea_tsm


def get_config(split: str = "1") -> ConfigDict:
    config = egtea_tsm.get_config(split)
    config.model.attention = "CinST->STinC"
    return config
