"""What papers and their authors' code say that networks cost, for the table of the whole family.

These are others' numbers, not counts of this code. They are of one clip of 8 frames (or segments)
of 224x224 pixels. Parameters are of 174 classes.
"""

from collections.abc import Mapping
from typing import NamedTuple

_AIA = "AIA, Table I"  # Hao et al. 2022; its FLOPs are `Complexity.paper_flops`

# A network in its own words (`describe`) | parameters | G | source. The G of AIA's Table I are its
# FLOPs, all others multiply-accumulates.
_TABLE = f"""
    TSN, ResNet-50                           | 23.86M     | 32.88   | {_AIA}
    TSM, ResNet-50                           | 23.86M     | 32.88   | {_AIA}
    TSN with SE3D, ResNet-50                 | 26.38M     | 32.94   | {_AIA}
    TSN with GE3D-G, ResNet-50               | 23.86M     | 32.92   | {_AIA}
    TSN with GE3D-DW133, ResNet-50           | 24.36M     | 33.04   | {_AIA}
    TSN with GE3D-DW333, ResNet-50           | 25.18M     | 33.31   | {_AIA}
    TSN with S3D-G, ResNet-50                | 25.13M     | 32.89   | {_AIA}
    TSN with CBAM3D177, ResNet-50            | 26.39M     | 32.94   | {_AIA}
    TSN with CBAM3D377, ResNet-50            | 26.40M     | 32.96   | {_AIA}
    TSN with C, ResNet-50                    | 23.87M     | 32.88   | {_AIA}
    TSN with ST, ResNet-50                   | 23.87M     | 33.01   | {_AIA}
    TSN with CinST, ResNet-50                | 23.87M     | 33.01   | {_AIA}
    TSN with STinC, ResNet-50                | 23.87M     | 33.01   | {_AIA}
    TSN with CinST->STinC, ResNet-50         | 23.87M     | 33.15   | {_AIA}
    TSM with CinST->STinC, ResNet-50         | 23.87M     | 33.01   | {_AIA} (a misprint of 33.15)
    TSM with non-local blocks, ResNet-50     | 31,223,022 | 61.1004 | its authors' code
    GST, ResNet-50                           | 21,035,246 | 29.0006 | its authors' code
    GST with alpha 4 and beta 1, ResNet-50   | 29,523,182 | 40.0987 | its authors' code
    H2CN, ResNet-50                          | 24,074,440 |         | its code, with 9,472 unused
    ViT-B/16                                 |            | 134.7   | TokShift (Zhang et al. 2021)
    TokShift, ViT-B/16                       |            | 134.7   | TokShift (Zhang et al. 2021)
"""


class PublishedCosts(NamedTuple):
    """Costs of a network as its source prints them; "" where it prints none."""

    params: str
    giga: str
    source: str


def _parse() -> Mapping[str, PublishedCosts]:
    lines = (line.split("|") for line in _TABLE.strip().splitlines())
    rows = ([cell.strip() for cell in line] for line in lines)
    return {network: PublishedCosts(*costs) for network, *costs in rows}


PUBLISHED_COSTS = _parse()
