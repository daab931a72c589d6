"""Attention-in-Attention video classification in JAX (Hao et al., IEEE TCSVT 2022)."""

import importlib
from typing import Any

__all__ = ["create_model", "load"]

_SUBPACKAGES = ("complexity", "data", "models", "ops", "weights")


def __getattr__(name: str) -> Any:
    # Imported on first use: processes that only decode and write videos import this package too,
    # and jax and flax would be most of their start.
    if name == "create_model":
        return importlib.import_module("aia_jax.models").create_model
    if name == "load":
        return importlib.import_module("aia_jax.prediction.load").load
    if name in _SUBPACKAGES:
        return importlib.import_module(f"aia_jax.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
