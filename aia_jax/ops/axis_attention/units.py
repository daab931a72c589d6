"""The four units of axis attention: the axis that each pools, and how its kernel lies on the rest.

A unit pools a feature [B, T, H, W, C] along one axis and convolves the pooled pair over the three
axes that remain (paper, Eqs. 5-8). The reference stores the pair with other axis orders than ours,
and its kernels with them: a transposed kernel raises no error, it only gives other numbers.
"""

import dataclasses

EPSILON = 1e-5  # added to the variance by every unit's batch normalisation


@dataclasses.dataclass(frozen=True)
class Unit:
    """Geometry of one unit.

    Attributes:
        axis: the pooled axis of [B, T, H, W, C]: 1, 2, 3 or 4 for T, H, W or C.
        kernel_order: the axes of the stored kernel [d, h, w, 2], in the order in which they run
            along the three axes that remain of [T, H, W, C].
    """

    axis: int
    kernel_order: tuple[int, int, int]


UNITS = {
    "C": Unit(4, (0, 1, 2)),  # kernel (T, H, W) on what remains, (T, H, W)
    "T": Unit(1, (1, 2, 0)),  # kernel (C, H, W) on (H, W, C)
    "H": Unit(2, (0, 2, 1)),  # kernel (T, C, W) on (T, W, C)
    "W": Unit(3, (0, 1, 2)),  # kernel (T, H, C) on (T, H, C)
}
