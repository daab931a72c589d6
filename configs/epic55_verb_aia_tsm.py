"""TSM with AIA (CinST->STinC) on the verbs of EPIC-KITCHENS-55: ResNet-50, 8 frames, 224 pixels.

    python train.py --config configs/epic55_verb_aia_tsm.py --config.init_from=WEIGHTS

WEIGHTS is a folder that convert_torch_weights.py wrote from an ImageNet ResNet-50.

The paper reports 50.2% top-1 for verbs (Table V; 8 frames), on a split of its own that is not
published. These are the paper's numbers, not measurements of this code. Meant for: the paper's 4
GPUs (2080 Ti or 3090) with 8 clips each; here any mesh whose devices divide the batch of 32. For
other batches `--config.train.batch_size` scales the learning rate with it; on TPUs and recent GPUs
add `--config.model.compute_dtype=bfloat16`.

Data: EPIC-KITCHENS-55, 125 verb classes, some of which never occur; 28,472 labelled segments. The
split is this project's: participants P01 to P25 train, P26 to P31 validate. One folder has verbs
and nouns, data/epic55, which this writes:

    python prepare_data.py epic55 --raw DIR --out data/epic55

Frames: 240×320, as the reference code has them for every data set, so `--size 240x320`, the
default. The paper writes short side 256.
"""

from ml_collections import ConfigDict

from configs import epic55_verb_tsm


def get_config() -> ConfigDict:
    config = epic55_verb_tsm.get_config()
    config.model.attention = "CinST->STinC"
    return config
