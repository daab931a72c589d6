"""TSM with AIA (CinST->STinC) on Something-Something V2: the same as `configs/ssv2.py:aia_tsm`.

    python train.py --config configs/ssv2_aia_tsm.py --config.init_from=WEIGHTS

configs/ssv2.py says the rest.
"""

from ml_collections import ConfigDict

from configs import ssv2


def get_config() -> ConfigDict:
    return ssv2.get_config("aia_tsm")
