"""The optimiser's fields of configs/base.py, with changes."""

from typing import Any

from ml_collections import ConfigDict

from configs import base


def optim_fields(**changes: Any) -> ConfigDict:
    """`config.optim` with one group of all parameters, unless the changes have others."""
    optim = base.get_config().optim
    optim.update(groups=((".*", {"lr": 1.0, "decay": 1.0}),))
    optim.update(**changes)
    return optim
