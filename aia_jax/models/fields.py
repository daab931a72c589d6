"""The fields of a network: those that its class declares, and which of them a config may set."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from aia_jax.errors import describe, shorten

# Fields that a config has in its section `train`: they change how a network trains, not what it is.
TRAINING_FIELDS = ("partial_bn", "bn_group_size", "remat")

# Fields that no config sets: the data set gives the first two, Linen adds `parent` and `name`.
_NOT_IN_CONFIG = ("num_classes", "num_frames", "parent", "name", "bn_momentum", *TRAINING_FIELDS)

_COMPUTE_DTYPES = ("float32", "bfloat16")


class FieldError(ValueError):
    """A field of a network has a value that no network can have.

    Attributes:
        field: the field's name in a config.
        problem: what was found and what is expected.
    """

    def __init__(self, field: str, problem: str):
        super().__init__(f"{field}: {problem}")
        self.field, self.problem = field, problem

    @property
    def config_key(self) -> str:
        """Where a config has the field: "model.depth", "train.remat"."""
        return f"{'train' if self.field in TRAINING_FIELDS else 'model'}.{self.field}"


def require(fits: bool, field: str, found: Any, expected: str) -> None:
    """Raises a `FieldError` with what was found and what is expected, unless the value fits."""
    if not fits:
        raise FieldError(field, f"found {value_text(found)}, expected {expected}")


def value_text(value: Any) -> str:
    """A field's value as the command line takes it: 1,2 for (1, 2)."""
    return shorten(",".join(map(str, value))) if isinstance(value, tuple) else describe(value)


def config_fields(module: type[nn.Module]) -> dict[str, Any]:
    """Every field of a network that a config may set, with its default.

    The names are those of the class, with one exception. A module's `dtype` is a NumPy type, which
    neither JSON nor a command line can hold, so a config has its name and calls it `compute_dtype`.
    """
    defaults = {
        field.name: field.default
        for field in dataclasses.fields(module)
        if field.name not in _NOT_IN_CONFIG
    }
    dtype = jnp.dtype(defaults.pop("dtype")).name
    return {**defaults, "compute_dtype": dtype}


def module_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The same fields as the class takes them: `config_fields`' names and values turned back.

    Raises:
        FieldError: for an unknown `compute_dtype`.
    """
    fields = dict(fields)
    if "compute_dtype" in fields:
        name = fields.pop("compute_dtype")
        require(name in _COMPUTE_DTYPES, "compute_dtype", name, " or ".join(_COMPUTE_DTYPES))
        fields["dtype"] = jnp.dtype(name)
    return fields
