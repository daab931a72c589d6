"""The networks, as flax Linen modules, and the one table that names them.

Everything in this folder needs jax, flax and numpy only. A new network is a folder with a
`modeling.py` and a `torch_names.py`, and a row of `NETWORKS`. Its module class has

* fields: dataclass fields with a default, each with its meaning in the class. `num_classes`,
  `num_frames` and `dtype` must be among them. `config.model` follows from the rest. The fields of
  `fields.TRAINING_FIELDS` are a recipe's settings of training; a class has those that make sense
  for it. `image_size`, (height, width), is there only where variables depend on it.
* `check()`: raises `fields.FieldError` for values with which there is no network.
* `__call__(clips, train)` → logits [B, K]; `embed(clips, train)` → what the head sees before its
  dropout, a vector of each frame, [B, T, C], float32; `features(clips, train)` → the last feature
  map [B, T, H, W, C].
* `describe()`: one line for people; `variants()`: fields of the networks to compare it with.

Besides, it has attributes that are no fields, as plain class attributes without an annotation or
as properties:

* `mean`, `std`: float32 [3], of the RGB pixels that it takes, on the scale from 0 to 1.
* `segment_frames`: consecutive frames of a segment. Clips are [B, num_frames·segment_frames, H, W,
  3], a segment's frames one after another, and T above counts segments.
* `optim_groups`: the optimiser's groups of its recipe, as `optim.groups` of configs/base.py takes
  them; a config whose `optim.groups` is () gets these. A row that no parameter matches is an error.
* `layer_paths`: a regular expression for the whole paths of each layer's parameters, from the input
  to the head, for `optim.layer_decay`. A parameter belongs to one of them.
* `partial_bn_frozen`: a regular expression for the whole paths of the BatchNorm parameters that
  its field `partial_bn` freezes; only where it has that field.
* `cam_layer`: the path of the module whose output Grad-CAM looks at if nobody names another one.
  Outputs [B, T, H, W, C] and [B·T, H, W, C] are maps; a network whose modules give something else
  has `frame_map(output, clips_shape)` → [B, T, H, W, C], or None where the output is no map. It is
  linear in the output.
* `written_out`: the same network with every default as a value, where a field's 0 or "" stands for
  one that follows from other fields.

What other parts of the program ask of its modules, at any depth:

* `conv_macs(shape)`: the multiply-accumulates of convolutions that are no layers of Flax, for the
  shape of the module's input, as its paper computes them.
* `product_macs(shape)`: the multiply-accumulates of products between activations, as in attention,
  for the shape of the module's input; `products_in_macs`, a class attribute beside it: whether the
  papers count them among the network's MACs.
* `pool_elements(shape)`: numbers that go into and come out of the module's average pools, which
  the AIA paper counts among its FLOPs; `repeated_macs(shape)`: multiply-accumulates that the paper
  counts besides, once for each frame, though the module does them once for a clip.
* a module with a gate says so by `self.sow("intermediates", "gate_NAME", gate)`, where the gate
  spreads to its input's [B, T, H, W, C]; "guide_NAME" for one that refines what a gate sees.
"""

import dataclasses
import difflib
from collections.abc import Mapping
from types import ModuleType
from typing import Any, NamedTuple

import flax.linen as nn

from aia_jax.errors import UserError
from aia_jax.models.c3d import torch_names as c3d_torch_names
from aia_jax.models.c3d.modeling import C3D
from aia_jax.models.fields import TRAINING_FIELDS, FieldError, config_fields, module_fields
from aia_jax.models.gst import torch_names as gst_torch_names
from aia_jax.models.gst.modeling import GST
from aia_jax.models.h2cn import torch_names as h2cn_torch_names
from aia_jax.models.h2cn.modeling import H2CN
from aia_jax.models.resnet import torch_names as resnet_torch_names
from aia_jax.models.resnet.modeling import ResNet
from aia_jax.models.vit import torch_names as vit_torch_names
from aia_jax.models.vit.modeling import ViT

__all__ = [
    "NETWORKS",
    "Network",
    "clip_shape",
    "create_model",
    "model_fields",
    "model_from_config",
    "name_of",
    "network_of",
    "owners",
    "training_model",
]


class Network(NamedTuple):
    """A row of the table of networks.

    Attributes:
        module: the Linen module.
        torch_names: how PyTorch's public checkpoints name its variables.
    """

    module: type[nn.Module]
    torch_names: ModuleType


NETWORKS: Mapping[str, Network] = {
    "resnet": Network(ResNet, resnet_torch_names),
    "h2cn": Network(H2CN, h2cn_torch_names),
    "vit": Network(ViT, vit_torch_names),
    "gst": Network(GST, gst_torch_names),
    "c3d": Network(C3D, c3d_torch_names),
}


def create_model(
    num_classes: int, num_frames: int = 8, *, name: str = "resnet", **fields: Any
) -> nn.Module:
    """Builds a network of the table.

    Args:
        num_classes: K of the logits [B, K].
        num_frames: T that the recipe trains with. Nothing in the variables depends on it: clips of
            another T are fine.
        name: the network's row in `NETWORKS`.
        fields: of the network's class, which explains them (`ResNet`). `dtype` is that of
            activations; parameters, batch statistics and logits stay float32.

    Raises:
        ValueError: for a network or a field that does not exist, and for a value that no network
            has; names the ones there are.
    """
    known = _fields_of_class(name)
    for field in fields:
        if field not in known:
            raise ValueError(_no_such_field(field, name))
    if num_classes < 1:
        raise ValueError(f"num_classes={num_classes}: a classifier needs at least one class")
    # Modules are hashable, so none of their fields may be a list.
    fields = {key: tuple(v) if isinstance(v, list) else v for key, v in fields.items()}
    model = _network(name).module(num_classes=num_classes, num_frames=num_frames, **fields)
    model.check()
    return model


def network_of(model: nn.Module) -> Network:
    """The row of the table that a network belongs to.

    Raises:
        ValueError: if it belongs to none.
    """
    return NETWORKS[name_of(model)]


def name_of(model: nn.Module) -> str:
    """The name of the row of the table that a network belongs to.

    Raises:
        ValueError: if it belongs to none.
    """
    for name, network in NETWORKS.items():
        if isinstance(model, network.module):
            return name
    raise ValueError(
        f"{type(model).__name__} is no network of the table; there are {', '.join(NETWORKS)}"
    )


def clip_shape(model: nn.Module, crop: int = 0) -> tuple[int, int, int, int]:
    """[T, H, W, 3] of a clip that the network takes; T is `num_frames` segments of frames.

    Args:
        model: from `create_model`.
        crop: height and width, pixels; 0: the network's `image_size`, or 224 where it has none.
    """
    size = (crop, crop) if crop else getattr(model, "image_size", (224, 224))
    return model.num_frames * model.segment_frames, *size, 3


def model_fields(name: str) -> dict[str, Any]:
    """The fields of `config.model` of a network, besides `name`, with their defaults.

    Raises:
        ValueError: for a network that does not exist.
    """
    return config_fields(_network(name).module)


def owners(field: str) -> list[str]:
    """The networks whose config has this field."""
    return [name for name in NETWORKS if field in model_fields(name)]


def model_from_config(config: Any) -> nn.Module:
    """Builds the network of `config.model` for the classes and frames of `config.data`.

    Args:
        config: `model` and `data` are mappings. `model` without `name` is a ResNet's: configs had
            no such field before there was a second network.

    Raises:
        UserError: names the config key, what was found and what is expected.
    """
    return _from_config(config, {})


def training_model(config: Any) -> nn.Module:
    """The network of `model_from_config` with the settings of `config.train` that concern it.

    They are `partial_bn`, `bn_group_size` and `remat`; the network's class explains them.

    Raises:
        UserError: as `model_from_config`, and for a setting that the network does not have.
    """
    name = config["model"].get("name", "resnet")
    known = _fields_of_class(name)
    settings = {}
    for field in TRAINING_FIELDS:
        value = config["train"][field]
        if field in known:
            settings[field] = value
        elif value:
            raise UserError(
                f"config key train.{field}: found {value!r}, but the network {name} has no such "
                "setting"
            )
    return _from_config(config, settings)


def _from_config(config: Any, settings: Mapping[str, Any]) -> nn.Module:
    fields = dict(config["model"])
    name = fields.pop("name", "resnet")
    data = config["data"]
    try:
        fields = module_fields(fields) | settings
        # 0: not known before the data are read. Nothing but the head depends on it.
        classes = data["num_classes"] or 1
        return create_model(classes, data["num_frames"], name=name, **fields)
    except FieldError as error:
        raise UserError(f"config key {error.config_key}: {error.problem}") from error
    except ValueError as error:
        raise UserError(f"config section model: {error}") from error


def _network(name: str) -> Network:
    if name not in NETWORKS:
        raise ValueError(f"there is no network {name!r}; the networks are {', '.join(NETWORKS)}")
    return NETWORKS[name]


def _fields_of_class(name: str) -> list[str]:
    """What `create_model` takes for a network besides its classes and frames."""
    fields = (field.name for field in dataclasses.fields(_network(name).module))
    return [f for f in fields if f not in ("num_classes", "num_frames", "parent", "name")]


def _no_such_field(field: str, name: str) -> str:
    """One line that says whose field it is, or which one may have been meant."""
    others = [other for other in NETWORKS if field in _fields_of_class(other)]
    if others:
        return f"{field} is a field of the network {' and '.join(others)}, this one is {name}"
    known = _fields_of_class(name)
    near = difflib.get_close_matches(field, known, n=2)
    hint = f"did you mean {' or '.join(near)}?" if near else f"it has {', '.join(known)}"
    return f"the network {name} has no field {field!r}; {hint}"
