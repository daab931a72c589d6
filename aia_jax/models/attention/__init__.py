"""The table of attention modules: name → where it stands in a bottleneck, and its class.

A further module is a class in this folder and a row of `MODULES`. The class is a `nn.Module` that
is called as `module(x, train)` on a feature x [B, T, H, W, C], keeps its shape and dtype, and takes
the fields

* `bn_momentum`: share of the old running statistics that batch normalisation keeps in training;
* `bn_group_size`: clips that batch normalisation takes together in training; 0: all clips;
* `relu`: whether max(·, 0) of the result is returned, for a site that is followed by a ReLU.

A class ignores the fields that it has no use for. `aia_jax.complexity` counts Flax's convolutions,
linear layers and batch normalisations without further code; `aia_jax.models` says what else it and
the pictures of gates ask of a module. A name may hold "-", which does not disturb the operator
"->": it may hold neither ">" nor "+" nor "_".
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn

from aia_jax.models.attention.aia import AxisAttention
from aia_jax.models.attention.cbam import CBAM
from aia_jax.models.attention.gather_excite import GatherExcite
from aia_jax.models.attention.squeeze_excite import (
    FeatureGating,
    GatherExciteGlobal,
    SqueezeExcite,
)

# Where in a bottleneck an attention module may stand: after conv1, its batch normalisation and its
# ReLU; after conv2 and its batch normalisation, before that ReLU; after conv3 and its batch
# normalisation, before the shortcut is added.
SITES = ("after_conv1", "after_conv2", "after_conv3")


class AttentionModule(NamedTuple):
    """A row of the table.

    Attributes:
        site: one of `SITES`.
        module: makes the module from the fields that all modules take, and `name`.
    """

    site: str
    module: Callable[..., nn.Module]


def _aia(host: tuple[str, ...], guide: tuple[str, ...] = ()) -> AttentionModule:
    return AttentionModule("after_conv2", functools.partial(AxisAttention, host=host, guide=guide))


_C, _ST = ("C",), ("T", "H", "W")

MODULES: dict[str, AttentionModule] = {
    # AIA (Hao et al. 2022): one gate of channels or of space and time, or one inside the other.
    "C": _aia(_C),
    "ST": _aia(_ST),
    "CinST": _aia(_ST, guide=_C),
    "STinC": _aia(_C, guide=_ST),
    # The modules that the paper compares with, each by its version for clips (Table I).
    "SE3D": AttentionModule("after_conv3", SqueezeExcite),
    "GE3D-G": AttentionModule("after_conv3", GatherExciteGlobal),
    "GE3D-DW133": AttentionModule("after_conv3", functools.partial(GatherExcite, frames=1)),
    "GE3D-DW333": AttentionModule("after_conv3", functools.partial(GatherExcite, frames=3)),
    "S3D-G": AttentionModule("after_conv2", FeatureGating),
    "CBAM3D177": AttentionModule("after_conv3", functools.partial(CBAM, frames=1)),
    "CBAM3D377": AttentionModule("after_conv3", functools.partial(CBAM, frames=3)),
}
