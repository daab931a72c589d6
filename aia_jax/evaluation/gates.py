"""The gates of axis attention as maps over the frames of a clip: what a network lets through.

A gate has size 1 along the axis that its unit pools (paper, Eqs. 5-8): y_C says where and when, y_T
where in every frame, y_H in which columns of a frame, y_W in which rows. Each is shown as a map of
its frames: repeated along the axis that it lacks, and averaged over channels where it has them.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from aia_jax.errors import UserError
from aia_jax.models.attention.aia import AxisAttention
from aia_jax.ops.axis_attention import axis_gates
from aia_jax.ops.axis_attention.units import UNITS
from aia_jax.shapes import Array, Float


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["values"],
    meta_fields=["unit", "module", "guides"],
)
@dataclasses.dataclass(frozen=True)
class GateMap:
    """The gate of one unit; a jitted function may return it.

    Attributes:
        unit: "C", "T", "H" or "W".
        module: the path of its attention module, as "stage1_block0/attention/CinST".
        guides: whether the gate refines what the module's host pools; a host's gates multiply the
            feature itself.
        values: float32 [B, T, H, W] between 0 and 1, or their shape under `jax.eval_shape`.
    """

    unit: str
    module: str
    guides: bool
    values: Any


def gate_maps(
    model: nn.Module,
    variables: Mapping[str, Any],
    clips: Float[Array, "b t h w 3"],
    module: str = "",
) -> list[GateMap]:
    """Computes the gates of a network's axis attention; a pure function that may be jitted.

    Args:
        model: the network.
        variables: {"params", "batch_stats"}.
        clips: normalised frames.
        module: the start of the paths whose gates are wanted, as "stage4" or
            "stage1_block0/attention/CinST"; "" for all.

    Raises:
        UserError: the network has no such module, or none at all.
    """
    found: list[GateMap] = []
    paths: list[str] = []

    def intercept(call: Callable, args: tuple, kwargs: dict, context: Any) -> Any:
        attention = context.module
        if isinstance(attention, AxisAttention) and context.method_name == "__call__":
            path = "/".join(attention.path)
            paths.append(path)
            if path.startswith(module):
                found.extend(_module_gates(attention, path, args[0]))
        return call(*args, **kwargs)

    with nn.intercept_methods(intercept):
        model.apply(variables, clips, train=False)
    if not paths:
        raise UserError("the network has no axis attention (model.attention), so it has no gates")
    if not found:
        raise UserError(f"--module {module}: no module begins so; there are {', '.join(paths)}")
    return found


def _module_gates(attention: AxisAttention, path: str, x: Array) -> list[GateMap]:
    variables = attention.variables
    gates = axis_gates(
        x,
        variables["params"],
        variables["batch_stats"],
        host=attention.host,
        guide=attention.guide,
    )
    maps = []
    for unit, gate in gates.items():
        whole = jnp.broadcast_to(jnp.expand_dims(gate, UNITS[unit].axis), x.shape)
        maps.append(GateMap(unit, path, unit in attention.guide, whole.mean(-1)))
    return maps
