"""The sizes of a ViT by the shapes of its arrays, and how they differ from a network's."""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import numpy as np

from aia_jax.errors import UserError
from aia_jax.models.torch_keys import Choice
from aia_jax.models.vit.modeling import SIZES
from aia_jax.models.vit.torch_sources import FC1, PATCHES, QUERY

SIZE_FIELDS = "model.size (or model.width, model.layers, model.heads and model.mlp_dim)"

# Names of sizes for people, by (width, layers, mlp_dim); only those of `SIZES` have a name as a
# field.
_NAMES = {
    (192, 12, 768): "Ti",
    (384, 12, 1536): "S",
    (768, 12, 3072): "B",
    (1024, 24, 4096): "L",
    (1280, 32, 5120): "H",
}

_HEADS = {"Ti": 3, "S": 6, "H": 16}  # of the sizes that are no fields

# Field, path of a variable and canonical key of the array that shows it, and the axis that does:
# in arrays that lie as here, which Google's do, and as torch's.
_SHOWN = (
    ("width", "params/patch_embedding/kernel", f"{PATCHES}weight", 3, 0),
    ("patch", "params/patch_embedding/kernel", f"{PATCHES}weight", 0, 2),
    ("mlp_dim", "params/layer0/mlp/fc1/kernel", f"{FC1.format(0)}weight", 1, 0),
    ("heads", "params/layer0/attention/query/kernel", f"{QUERY.format(0)}weight", 1, None),
)


class Found(NamedTuple):
    """A size of a network, and the array that shows it, for people."""

    size: int
    array: str


def layer_count(names: Iterable[str]) -> int:
    """Layers by the highest number in canonical keys or paths of variables; 0 where there is none.

    A missing one among them is another error.
    """
    return 1 + max(map(_layer, names), default=-1)


def _layer(name: str) -> int:
    match = re.match(r"(?:params/layer|transformer\.encoder\.layer\.)(\d+)[./]", name)
    return int(match[1]) if match else -1


def find_sizes(
    keys: Mapping[str, str], arrays: Mapping[str, np.ndarray], lie_as_here: bool
) -> dict[str, Found]:
    """Field of the network → its size, for those that the arrays show.

    Args:
        keys: canonical key, or path of a variable, → key in `arrays`.
        arrays: of a state dict, or variables by their paths.
        lie_as_here: whether their axes are those of this project's variables.
    """
    found = {}
    for field, path, canonical, our_axis, torchs_axis in _SHOWN:
        key, axis = keys.get(path, keys.get(canonical)), our_axis if lie_as_here else torchs_axis
        if key is not None and axis is not None and np.ndim(arrays[key]) > axis:
            shape = np.shape(arrays[key])
            found[field] = Found(shape[axis], f"{key} {list(shape)}")
    if layers := layer_count(keys):
        found["layers"] = Found(layers, keys[max(keys, key=_layer)])
    return found


def check_sizes(found: Mapping[str, Found], model: nn.Module) -> None:
    """Compares the sizes that arrays show with those of a network.

    Raises:
        UserError: they differ; a line for each field, and what to set.
    """
    expected = {**model.sizes._asdict(), "patch": model.patch}
    different = {field: size for field, size in found.items() if size.size != expected[field]}
    if not different:
        return
    lines = [
        f"model.{field}: the weights' is {size} ({array}), this net's is {expected[field]}"
        for field, (size, array) in different.items()
    ]
    lines[-1] += f"; for their network set {_flags(found, different)}"
    raise UserError("\n".join(lines))


def _flags(found: Mapping[str, Found], different: Iterable[str]) -> str:
    """The flags of the command line for the sizes found."""
    name = _name(found)
    fields = {field: found[field].size for field in different}
    if name in SIZES and set(fields) - {"patch"}:
        fields = {"size": name} | {field: v for field, v in fields.items() if field == "patch"}
    return " ".join(f"--config.model.{field}={value}" for field, value in fields.items())


def _name(found: Mapping[str, Found]) -> str | None:
    fields = ("width", "layers", "mlp_dim")
    return _NAMES.get(tuple(found[field].size if field in found else 0 for field in fields))


def propose_sizes(found: Mapping[str, Found], positions: np.ndarray | None) -> dict[str, Any]:
    """Fields of the network whose sizes arrays show; `Choice` for one that none shows.

    Heads of the sizes that have a name are as many as their papers have. Positions are for a square
    of patches, unless their number is none of a square.
    """
    fields: dict[str, Any] = {field: size.size for field, size in found.items()}
    name = _name(found)
    if name in SIZES and fields.get("heads", SIZES[name].heads) == SIZES[name].heads:
        fields = {"size": name, "patch": fields["patch"]}
    else:
        heads = _HEADS.get(name)
        fields = {"size": "", "heads": Choice(()) if heads is None else heads, **fields}
    if positions is not None and np.ndim(positions) == 3 and "patch" in fields:
        count = np.shape(positions)[1] - 1
        side = math.isqrt(max(0, count)) * fields["patch"]
        is_square = side and side**2 == count * fields["patch"] ** 2
        fields["image_size"] = (side, side) if is_square else Choice(())
    return fields


def describe_sizes(found: Mapping[str, Found], positions: np.ndarray | None) -> str:
    """A text such as "ViT-B/16 (12 layers, 768 channels), positions for 14x14 patches"."""
    sizes = {field: size.size for field, size in found.items()}
    name, patch = _name(found), sizes.get("patch", "?")
    layers = f"{sizes.get('layers', 0)} layers, {sizes.get('width', '?')} channels"
    text = f"ViT-{name}/{patch} ({layers})" if name else f"ViT ({layers}, patches of {patch})"
    if positions is None or np.ndim(positions) != 3:
        return text
    count = np.shape(positions)[1] - 1
    side = math.isqrt(max(0, count))
    grid = f"{side}x{side}" if side**2 == count else str(count)
    return f"{text}, positions for {grid} patches"
