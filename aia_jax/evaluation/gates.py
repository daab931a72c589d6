"""The gates of attention as maps over the frames of a clip: what a network lets through.

A gate of axis attention has size 1 along the axis that its unit pools (AIA, Eqs. 5-8): y_C says
where and when, y_T where in every frame, y_H in which columns of a frame, y_W in which rows. Other
modules have gates of other sizes. Each is shown as a map of its frames: repeated along the axes
that it lacks, and averaged over channels where it has them.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict

from aia_jax.errors import UserError
from aia_jax.shapes import Array, Float

_ROLES = {"gate_": False, "guide_": True}  # how the name of a sown gate begins → whether it guides


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["values"],
    meta_fields=["name", "module", "guides"],
)
@dataclasses.dataclass(frozen=True)
class GateMap:
    """One gate; a jitted function may return it.

    Attributes:
        name: as the module calls it; of axis attention its unit, "C", "T", "H" or "W".
        module: the path of its module, as "stage1_block0/attention/CinST".
        guides: whether the gate refines what the module's host pools; a host's gates multiply the
            feature itself.
        values: float32 [B, T, H, W] between 0 and 1, or their shape under `jax.eval_shape`.
    """

    name: str
    module: str
    guides: bool
    values: Any


def gate_maps(
    model: nn.Module,
    variables: Mapping[str, Any],
    clips: Float[Array, "b t h w 3"],
    module: str = "",
) -> list[GateMap]:
    """Computes the gates that a network's modules sow; a pure function that may be jitted.

    Args:
        model: the network.
        variables: {"params", "batch_stats"}.
        clips: normalised frames.
        module: the start of the paths whose gates are wanted, as "stage4" or
            "stage1_block0/attention/CinST"; "" for all.

    Raises:
        UserError: the network has no such module with gates, or none at all.
    """
    shapes: dict[str, tuple[int, ...]] = {}  # of the inputs of modules, in the order of their calls

    def record(call: Callable, args: tuple, kwargs: dict, context: Any) -> Any:
        if context.method_name == "__call__" and args:
            shapes.setdefault("/".join(context.module.path), jnp.shape(args[0]))
        return call(*args, **kwargs)

    with nn.intercept_methods(record):
        _, sown = model.apply(variables, clips, train=False, mutable=["intermediates"])
    gates: dict[str, dict[str, Array]] = {}
    for path, values in flatten_dict(sown.get("intermediates", {})).items():
        if path[-1].startswith(tuple(_ROLES)):
            gates.setdefault("/".join(path[:-1]), {})[path[-1]] = values[0]
    if not gates:
        raise UserError(f"{model.describe()} has no module with a gate to look at")
    paths = [path for path in shapes if path in gates]
    if not any(path.startswith(module) for path in paths):
        raise UserError(f"--module {module}: no module begins so; there are {', '.join(paths)}")
    return [
        _gate_map(name, path, gate, shapes[path])
        for path in paths
        if path.startswith(module)
        for name, gate in gates[path].items()
    ]


def _gate_map(name: str, path: str, gate: Array, shape: tuple[int, ...]) -> GateMap:
    """The map of a gate that spreads to a feature of this shape, [B, T, H, W, C]."""
    role = next(role for role in _ROLES if name.startswith(role))
    frames = jnp.broadcast_to(gate.astype(jnp.float32).mean(-1), shape[:-1])
    return GateMap(name.removeprefix(role), path, _ROLES[role], frames)
