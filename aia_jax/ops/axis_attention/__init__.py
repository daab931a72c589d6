"""Axis attention: one documented function; XLA's and Triton's forms of it stand behind it."""

from collections.abc import Mapping
from typing import Any

from aia_jax.ops.axis_attention import gating, gating_on_mesh, xla
from aia_jax.ops.frames import time_parts
from aia_jax.ops.triton import axis_attention as triton
from aia_jax.ops.triton import is_used
from aia_jax.shapes import Array, Float

__all__ = ["axis_attention", "axis_gates", "pool_axis"]


def axis_attention(
    x: Float[Array, "b t h w c"],
    parameters: Mapping[str, Any],
    statistics: Mapping[str, Any],
    *,
    host: tuple[str, ...],
    guide: tuple[str, ...] = (),
    train: bool,
    bn_momentum: float = 0.9,
    bn_group_size: int = 0,
    relu: bool = False,
) -> tuple[Float[Array, "b t h w c"], Mapping[str, Any]]:
    """Refines a feature by gates computed from its pooled axes (paper, section III, Eqs. 1-15).

    A *unit* C, T, H or W pools a feature z along its axis, convolves the pooled pair over the three
    axes that remain, and answers with a gate between 0 and 1 (Eqs. 1-8):

        pair_u = [max over axis u of z, mean over axis u of z]
        gate_u = sigmoid(BN(conv3x3x3(pair_u)))

    The gate has size 1 along the axis it pooled. Units side by side act by their mean (Eqs. 9-11):

        gates(units, z) = mean over u in units of gate_u, broadcast to z's shape

    With host units alone the module is x times their gates. With guide units the host looks at what
    the guide's gates leave of x, but its gates multiply x itself (Eqs. 12-15):

        z = x · gates(guide, x)      (z = x without a guide)
        y = x · gates(host, z)

    So C is host=("C",), ST is host=("T", "H", "W"), and CinST is ST with guide=("C",).

    Args:
        x: feature [B, T, H, W, C], any float dtype.
        parameters: for every unit of guide and host {"conv": {"kernel": [3, 3, 3, 2]}, "bn":
            {"scale": [1], "bias": [1]}}; float32, or float64 for a float64 feature. A kernel is
            stored in the reference's axis order (`units.UNITS`), its last axis is (max, mean).
        statistics: for every unit {"bn": {"mean": [1], "var": [1]}}: running statistics.
        host: units whose gates multiply x; one or more of "C", "T", "H", "W".
        guide: units whose gates refine what the host pools; may be empty. No unit occurs twice.
        train: whether a response is normalised by the batch's statistics or by the running ones.
        bn_momentum: share of the old running statistics that stays, in training.
        bn_group_size: clips that are normalised together in training; 0: all clips.
        relu: whether max(y, 0) is returned.

    Returns:
        y in x's dtype and shape, and the statistics: the new running ones in training (means and
        biased variances, averaged over groups), the given ones in evaluation. There is a gradient
        for x and for the parameters.

    Raises:
        ValueError: in training, if the clips do not split into groups of `bn_group_size`.
        KeyError: for a unit without parameters or statistics.
    """
    form = triton if is_used(x) else xla
    return form.axis_attention(
        x,
        parameters,
        statistics,
        host=host,
        guide=guide,
        train=train,
        bn_momentum=bn_momentum,
        bn_group_size=bn_group_size,
        relu=relu,
    )


def axis_gates(
    x: Float[Array, "b t h w c"],
    parameters: Mapping[str, Any],
    statistics: Mapping[str, Any],
    *,
    host: tuple[str, ...],
    guide: tuple[str, ...] = (),
) -> dict[str, Float[Array, "b _ _ _"]]:
    """Computes the gates by which `axis_attention` refines a feature in evaluation.

    The arguments are those of `axis_attention`.

    Returns:
        The gate of each unit of guide and host, between 0 and 1, float32 (float64 for a float64
        feature). Its shape is x's without the axis that the unit pools: C [B, T, H, W], T [B, H, W,
        C], H [B, T, W, C], W [B, T, H, C].
    """
    gates, _ = xla.compute_gates(x, parameters, statistics, host=host, guide=guide, train=False)
    return gates


def pool_axis(
    x: Float[Array, "b t h w c"], axis: int
) -> tuple[Float[Array, "b _ _ _"], Float[Array, "b _ _ _"]]:
    """Takes the maximum and the mean along an axis in one pass, as a unit of axis attention does.

    Equal maxima share the gradient.

    Args:
        x: any float dtype.
        axis: 1, 2, 3 or 4 for T, H, W or C.

    Returns:
        Maximum and mean in float32 (float64 for a float64 feature), without the axis.
    """
    form = gating_on_mesh if time_parts() > 1 else gating
    ((maximum, mean),) = form.pool_axes(x, (), (), (axis,))
    return maximum, mean
